#include "drivers/soft/null.h"

#include <utility>

#include "drivers/block_check.h"
#include "drivers/soft/in_place.h"

namespace runnel::soft {
namespace {

struct null_medium {
  std::uint64_t execute(const block_request&, const block_request*) noexcept { return 0; }
  block_status execute_rare(const block_request&) noexcept { return block_status::success; }
  void publish() noexcept {}
};

}  // namespace

outcome<std::unique_ptr<block_device>> open_null(std::string address, std::uint64_t bytes,
                                                 std::uint32_t block_bytes) {
  if (auto fits = check_disk_size(address, bytes, block_bytes); !fits) {
    return std::unexpected{std::move(fits.error())};
  }
  return std::make_unique<in_place_device<null_medium>>(std::move(address), bytes, block_bytes,
                                                        null_medium{});
}

}  // namespace runnel::soft
