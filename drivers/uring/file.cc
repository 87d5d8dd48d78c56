#include "drivers/uring/file.h"

#include <utility>

#include "drivers/block_check.h"
#include "drivers/uring/opened_file.h"
#include "drivers/uring/ring_queue.h"
#include "drivers/uring/sync_queue.h"
#include "drivers/uring/transfer.h"

namespace runnel::uring {
namespace {

constexpr std::uint32_t depth_max = 4096;
constexpr std::uint32_t queues_max = 1024;

class file_device final : public block_device {
 public:
  file_device(std::string address, opened_file file, const file_options& options)
      : info_{.address = std::move(address),
              .block_bytes = file.geometry.block_bytes,
              .block_count = file.geometry.block_count,
              .transfer_bytes_max = file.geometry.transfer_bytes_max,
              .queue_depth_max = depth_max,
              .queue_count_max = queues_max,
              .operations = file.geometry.operations,
              .deallocated_is_zero = true,
              .kernel_brings = true,
              .volatile_cache = true,
              .note = file.note},
        file_{std::move(file)},
        use_io_uring_{options.use_io_uring},
        pinned_{options.pinned} {}

  [[nodiscard]] const block_info& info() const noexcept override { return info_; }

  [[nodiscard]] outcome<std::unique_ptr<block_queue>> make_queue(std::uint32_t depth) override {
    if (auto fits = check_depth(info_, depth); !fits) {
      return std::unexpected{std::move(fits.error())};
    }
    if (!use_io_uring_) {
      return std::make_unique<sync_queue>(file_, depth);
    }
    auto queue = ring_queue::create(file_, depth, pinned_);
    if (!queue) {
      use_io_uring_ = false;  // one kind for all queues, and one note
      note("by pread and pwrite: io_uring is refused (" + to_string(queue.error()) + ")");
      return std::make_unique<sync_queue>(file_, depth);
    }
    if (pinned_ != nullptr && !(*queue)->memory_is_registered()) {
      pinned_ = nullptr;
      note("memory is not registered with io_uring: raise the limit on locked memory (ulimit -l)");
    }
    return std::move(*queue);
  }

 private:
  void note(const std::string& text) { info_.note += (info_.note.empty() ? "" : "; ") + text; }

  block_info info_;
  opened_file file_;
  bool use_io_uring_;
  const region* pinned_;
};

}  // namespace

outcome<std::unique_ptr<block_device>> open_file(std::string address, const std::string& path,
                                                 const file_options& options) {
  auto file = open_and_examine(address, path, options);
  if (!file) {
    return std::unexpected{std::move(file.error())};
  }
  return std::make_unique<file_device>(std::move(address), std::move(*file), options);
}

}  // namespace runnel::uring
