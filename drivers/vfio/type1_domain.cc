#include "drivers/vfio/type1_domain.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "drivers/vfio/info_reply.h"
#include "drivers/vfio/open_hint.h"
#include "drivers/vfio/type1_reply.h"
#include "drivers/vfio/uapi/type1.h"
#include "mempool/base/check.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] std::string group_name(int number) {
  return "/dev/vfio/" + std::to_string(number);
}

[[nodiscard]] std::string object_of(const std::string& device) {
  return "pci:" + device;
}

[[nodiscard]] bool is_foreign(const group_member& member) {
  return !member.driver.empty() && member.driver != "vfio-pci" && member.driver != "pcieport";
}

}  // namespace

outcome<std::unique_ptr<type1_domain>> type1_domain::open(syscalls& system, std::string container) {
  auto opened = system.open(container.c_str(), O_RDWR);
  if (!opened) {
    const bool absent = opened.error() == error{errc::os, ENOENT};
    return fail(opened.error(), "open", container,
                absent ? "is the kernel's VFIO there? try `modprobe vfio-pci`"
                       : "every user may open it by default: mode 0666");
  }
  std::unique_ptr<type1_domain> domain{
      new type1_domain{system, std::move(*opened), std::move(container)}};
  if (auto agreed = domain->agree(); !agreed) {
    return std::unexpected{std::move(agreed.error())};
  }
  return domain;
}

type1_domain::~type1_domain() {
  CHECK(groups_.empty());
}

outcome<> type1_domain::agree() {
  const auto version = system().ioctl(container_.get(), uapi::ioctls::get_api_version, 0);
  if (!version || *version != uapi::api_version) {
    return fail(version ? error{errc::unsupported} : version.error(), "use", path(),
                "it speaks another version of VFIO");
  }
  const auto type1v2 = system().ioctl(container_.get(), uapi::ioctls::check_extension,
                                      uapi::extensions::type1v2_iommu);
  if (!type1v2 || *type1v2 != 1) {
    return fail(type1v2 ? error{errc::unsupported} : type1v2.error(), "use", path(),
                "it knows no IOMMU of type 1, version 2: try `modprobe vfio_iommu_type1`");
  }
  return {};
}

outcome<int> type1_domain::join(int number, const std::string& device,
                                std::span<const group_member> members) {
  if (const auto in = std::ranges::find(groups_, number, &group::number); in != groups_.end()) {
    ++in->users;
    return in->fd.get();
  }
  auto opened = open_group(number, device);
  if (!opened) {
    return std::unexpected{std::move(opened.error())};
  }
  if (auto viable = check_viable(*opened, number, device, members); !viable) {
    return std::unexpected{std::move(viable.error())};
  }
  if (auto inside = put_in(*opened, number, device); !inside) {
    return std::unexpected{std::move(inside.error())};
  }
  groups_.push_back({.number = number, .users = 1, .fd = std::move(*opened)});
  if (auto learned = refresh(); !learned) {
    leave(number);
    return std::unexpected{std::move(learned.error())};
  }
  return groups_.back().fd.get();
}

void type1_domain::leave(int number) noexcept {
  const auto in = std::ranges::find(groups_, number, &group::number);
  CHECK(in != groups_.end());
  if (--in->users != 0) {
    return;
  }
  if (groups_.size() == 1) {
    unmap_all();
  }
  groups_.erase(in);  // closed; it leaves the container when its devices are
}

/// With its last group a container loses its maps. Not soon enough where a device is still being
/// closed, which keeps the group, and not at all where an iommufd is the container.
void type1_domain::unmap_all() noexcept {
  uapi::iommu_type1_dma_unmap asked{
      .argsz = sizeof(asked), .flags = 0, .iova = 0, .size = 0 - limits().page_bytes};
  if (maps() != 0) {  // who should be told of a failure has left
    static_cast<void>(ioctl_on(system(), container_.get(), uapi::ioctls::iommu_unmap_dma, asked));
  }
  forget_maps();
}

outcome<kernel_fd> type1_domain::open_group(int number, const std::string& device) {
  const std::string node = group_name(number);
  auto opened = system().open(node.c_str(), O_RDWR);
  if (!opened) {
    return fail(opened.error(), "open", object_of(device), open_hint(opened.error(), node, device));
  }
  return std::move(*opened);
}

outcome<> type1_domain::check_viable(const kernel_fd& opened, int number, const std::string& device,
                                     std::span<const group_member> members) {
  uapi::group_status status{.argsz = sizeof(status), .flags = 0};
  if (const auto asked = ioctl_on(system(), opened.get(), uapi::ioctls::group_get_status, status);
      !asked) {
    return fail(asked.error(), "ask for the state of the group of", object_of(device));
  }
  if ((status.flags & uapi::group_flags::viable) != 0) {
    return {};
  }
  std::string hint = "group " + std::to_string(number) + " is not viable";
  for (const group_member& each : members) {
    if (is_foreign(each)) {
      hint += ": " + each.address + " is bound to " + each.driver + "; run `runnel bind " +
              each.address + "`";
    }
  }
  return fail({errc::busy}, "open", object_of(device), std::move(hint));
}

/// The first group decides what kind of IOMMU it is.
outcome<> type1_domain::put_in(const kernel_fd& opened, int number, const std::string& device) {
  std::int32_t container = container_.get();
  if (const auto set =
          ioctl_on(system(), opened.get(), uapi::ioctls::group_set_container, container);
      !set) {
    return fail(set.error(), "open", object_of(device),
                set.error() == error{errc::os, EINVAL}
                    ? "something is mapped where it cannot reach: open devices before mapping"
                    : "group " + std::to_string(number) + " cannot be put into " + path());
  }
  if (!groups_.empty()) {
    return {};
  }
  // EINVAL: it has one, by a group that has left us and whose device is still being closed.
  if (const auto set = system().ioctl(container_.get(), uapi::ioctls::set_iommu,
                                      uapi::extensions::type1v2_iommu);
      !set && set.error() != error{errc::os, EINVAL}) {
    return fail(set.error(), "give an IOMMU to", object_of(device),
                "is there one, and on? see `intel_iommu=on` of the kernel's command line");
  }
  return {};
}

outcome<> type1_domain::refresh() {
  const uapi::iommu_type1_info asked{
      .argsz = sizeof(asked), .flags = 0, .iova_pgsizes = 0, .cap_offset = 0, .pad = 0};
  const auto reply = ask_info(system(), container_.get(), uapi::ioctls::iommu_get_info,
                              std::as_bytes(std::span{&asked, 1}));
  auto info = reply ? parse_type1_info(*reply) : std::unexpected{reply.error()};
  if (!info) {
    return fail(info.error(), "ask for the IOMMU of", path());
  }
  domain_limits limits;
  limits.page_bytes = std::max<std::uint64_t>(info->page_bytes, limits.page_bytes);
  if (info->maps_available) {
    limits.maps_max = *info->maps_available + static_cast<std::uint32_t>(maps());
  }
  learn(std::move(info->ranges), limits);
  return {};
}

result<> type1_domain::ask_map(const region& memory) noexcept {
  uapi::iommu_type1_dma_map asked{.argsz = sizeof(asked),
                                  .flags = std::to_underlying(memory.permissions),  // the same bits
                                  .vaddr = reinterpret_cast<std::uintptr_t>(memory.address),
                                  .iova = raw(memory.first_iova()),
                                  .size = memory.length};
  const auto done = ioctl_on(system(), container_.get(), uapi::ioctls::iommu_map_dma, asked);
  return done ? result<>{} : std::unexpected{done.error()};
}

result<> type1_domain::ask_unmap(const region& memory) noexcept {
  uapi::iommu_type1_dma_unmap asked{
      .argsz = sizeof(asked), .flags = 0, .iova = raw(memory.first_iova()), .size = memory.length};
  const auto done = ioctl_on(system(), container_.get(), uapi::ioctls::iommu_unmap_dma, asked);
  if (!done) {
    return std::unexpected{done.error()};
  }
  return asked.size == memory.length ? result<>{} : fail(errc::protocol);
}

}  // namespace runnel::vfio
