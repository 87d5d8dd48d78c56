#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "drivers/vfio/transport.h"
#include "drivers/vfio_user/client_memory.h"
#include "mempool/base/unique_fd.h"

namespace runnel::vfio_user {

/// Names a request of the client that is still unanswered.
enum class request_id : std::uint64_t {};

/// What a model says to a request: 0 (done), an errno (refused), or `later`: then it calls
/// `server::reply` with the id in some later turn. The client's next request waits until then, and
/// the spans of the request stay valid until the reply or the end of close_device. Operations that
/// are not given an id cannot be answered later.
class answer {
 public:
  [[nodiscard]] static constexpr answer ok() noexcept { return answer{0}; }
  [[nodiscard]] static constexpr answer refuse(int errno_value) noexcept {
    return answer{errno_value};
  }
  [[nodiscard]] static constexpr answer later() noexcept { return answer{-1}; }

  [[nodiscard]] constexpr bool is_later() const noexcept { return value_ < 0; }
  [[nodiscard]] constexpr int errno_value() const noexcept { return value_; }

 private:
  explicit constexpr answer(int value) noexcept : value_{value} {}
  int value_;
};

/// What the model is made of; read once when it is hosted.
struct device_layout {
  std::uint32_t flags = 0;                 // VFIO_DEVICE_FLAGS_*
  std::vector<vfio::region_info> regions;  // index = region number; size 0: absent; fd borrowed
  std::vector<vfio::irq_info> irqs;        // index = interrupt number
  std::uint32_t migration_flags = 0;       // VFIO_MIGRATION_*; 0: the model cannot migrate
  bool dirty_log = false;                  // the log operations work
};

/// A device that we serve. Operations are those of the kernel's vfio_device_ops, vfio_migration_ops
/// and vfio_log_ops, so whoever has written a kernel VFIO driver knows them. The server calls them
/// from its `advance`, one request at a time, with lengths and ranges already checked against the
/// layout; the bytes themselves are the client's and hostile.
///
/// @context the core that polls the server; no operation may wait
class device_model {
 public:
  virtual ~device_model() = default;

  [[nodiscard]] virtual const device_layout& init() = 0;

  /// A client is there; `memory` is its memory, valid until close_device returned true.
  virtual void open_device(client_memory& memory) = 0;
  /// The client is gone: stop using its memory, its eventfds and the spans of unanswered requests.
  /// False: not quiet yet (I/O in flight still uses them); asked again at the next `advance`.
  [[nodiscard]] virtual bool close_device() = 0;

  [[nodiscard]] virtual answer read(request_id id, std::uint32_t region, std::uint64_t offset,
                                    std::span<std::byte> out) = 0;
  [[nodiscard]] virtual answer write(request_id id, std::uint32_t region, std::uint64_t offset,
                                     std::span<const std::byte> in) = 0;

  /// Vectors start.. of `index` get these eventfds (moved out of the span); an invalid one
  /// detaches.
  [[nodiscard]] virtual answer set_irq_triggers(std::uint32_t index, std::uint32_t start,
                                                std::span<unique_fd> eventfds) = 0;
  /// No eventfds at all for `index` any more.
  virtual void disable_irqs(std::uint32_t index) = 0;
  /// Optional: has vectors fire as if the device had raised them; the client proves their way.
  /// EINVAL where none of the interrupt has an eventfd.
  [[nodiscard]] virtual answer trigger_irqs(const vfio::irq_vectors& which);
  /// A maskable interrupt (INTx) was masked or unmasked by the client.
  virtual void mask_irq(std::uint32_t index, bool masked) = 0;

  [[nodiscard]] virtual answer reset(request_id id) = 0;

  /// `added` is now part of the memory: resolve again what could not be resolved. It has no address
  /// when the client gave no descriptor. `later` delays the client's reply (backends must map it
  /// first); a refusal takes the region out again, and nothing may use it any more.
  [[nodiscard]] virtual answer dma_map(request_id id, const region& added) = 0;
  /// `leaving` is about to go: stop using it. Nothing resolves to it from now on. `later` until I/O
  /// in flight on it has ended; it is unmapped from this process right after the answer. A refusal
  /// says that it is still in use: then it stays mapped, unresolvable, until the client leaves.
  [[nodiscard]] virtual answer dma_unmap(request_id id, const region& leaving) = 0;

  /// Features other than migration and logging. Begin with `check_feature` (feature.h).
  /// @param flags feature | GET, SET, PROBE; unknown features answer ENOTTY
  /// @param data  the feature's structure: read by SET, filled by GET
  [[nodiscard]] virtual answer device_feature(request_id id, std::uint32_t flags,
                                              std::span<std::byte> data);
  /// Asks the model to let go of the device, as the kernel does on unbind. @param count times asked
  virtual void request(unsigned count);
  /// Optional check of a VF token (16 bytes; empty: none was given). 0 or an errno.
  [[nodiscard]] virtual int match_token_uuid(std::span<const std::byte> uuid);

  [[nodiscard]] virtual answer migration_set_state(request_id id, std::uint32_t state);
  [[nodiscard]] virtual answer migration_get_state(std::uint32_t& state);
  [[nodiscard]] virtual answer migration_get_data_size(std::uint64_t& bytes);
  [[nodiscard]] virtual answer log_start(std::uint64_t page_bytes,
                                         std::span<const vfio::region_area> ranges);
  [[nodiscard]] virtual answer log_stop();
  [[nodiscard]] virtual answer log_read_and_clear(std::uint64_t iova, std::uint64_t length,
                                                  std::span<std::byte> bitmap);
};

}  // namespace runnel::vfio_user
