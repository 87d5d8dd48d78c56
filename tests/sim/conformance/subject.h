#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include "drivers/vfio/domain.h"
#include "drivers/vfio/syscalls.h"
#include "drivers/vfio/transport.h"

namespace runnel::sim {

/// How a device is reached.
enum class way : std::uint8_t { group, compat, cdev, vfio_user };
inline constexpr std::size_t ways = 4;
inline constexpr std::array<std::string_view, ways> way_names{"group", "compat", "cdev",
                                                              "vfio_user"};

/// What whoever opens devices must give back.
struct holdings {
  std::size_t fds = 0;
  std::size_t maps = 0;      // of files without a name: devices' memory among them
  std::uint64_t pinned = 0;  // bytes

  friend bool operator==(const holdings&, const holdings&) = default;
};
/// Of this process, as /proc tells.
[[nodiscard]] holdings held_by_process();

/// The kernel that gives a device, for those who ask it themselves.
struct kernel_side {
  vfio::syscalls* system = nullptr;
  std::string address;  // "0000:01:00.0"
  int group = 0;
  std::string node;  // "/dev/vfio/devices/vfio0"; empty: there is none
};

/// An NVMe controller and what it may reach, one way or another. Nothing is open at first.
class subject {
 public:
  subject() = default;
  subject(const subject&) = delete;
  subject& operator=(const subject&) = delete;
  virtual ~subject() = default;

  /// The device comes, and its domain unless that is there. Ready or gone when this returns.
  virtual void open() = 0;
  /// The device goes. @return whether the domain stays
  virtual bool close_device() = 0;
  /// All goes.
  virtual void close() = 0;

  // While it is open.
  [[nodiscard]] virtual vfio::device_transport& transport() = 0;
  [[nodiscard]] virtual vfio::iommu_domain& domain() = 0;
  /// Whoever is on the other side does what it can; waits a little if that takes another thread.
  virtual void turn() = 0;

  [[nodiscard]] virtual holdings held() const { return held_by_process(); }
  /// Whether `held` counts every byte that is mapped as pinned.
  [[nodiscard]] virtual bool counts_pins() const { return false; }
  /// Empty where there is none.
  [[nodiscard]] virtual std::optional<kernel_side> kernel() const { return std::nullopt; }
  /// Somebody else, who is root, has the kernel wake the device once it sleeps.
  /// @return whether it slept and that could be done
  [[nodiscard]] virtual bool wake() { return false; }
};

struct subject_kind {
  std::string name;  // "fake_group"
  way how = way::group;
  unsigned kernel_version = 612;  // 6.12
  std::function<std::unique_ptr<subject>()> make;

  // NOLINTNEXTLINE(readability-identifier-naming): googletest's word
  friend void PrintTo(const subject_kind& kind, std::ostream* to) { *to << kind.name; }
};
/// The fake kernel by each way, vfio-user, and the devices that RUNNEL_CONFORMANCE names, as
/// "pci:0000:00:04.0?via=group pci:0000:00:04.0?via=cdev".
[[nodiscard]] const std::vector<subject_kind>& subject_kinds();

}  // namespace runnel::sim
