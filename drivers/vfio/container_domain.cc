#include "drivers/vfio/container_domain.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <utility>

#include "drivers/vfio/open_hint.h"
#include "drivers/vfio/uapi/type1.h"
#include "mempool/base/check.h"

namespace runnel::vfio {
namespace {

[[nodiscard]] std::string object_of(const std::string& device) {
  return "pci:" + device;
}

}  // namespace

outcome<kernel_fd> container_domain::open_container(syscalls& system, const std::string& path,
                                                    unsigned long kind, std::string unknown) {
  auto opened = system.open(path.c_str(), O_RDWR);
  if (!opened) {
    const bool absent = opened.error() == error{errc::os, ENOENT};
    return fail(
        opened.error(), "open", path,
        absent ? "this kernel offers none: try `modprobe vfio-pci`, or another way (via=)"
               : "its group or owner decides who may open it: `sudo chown $USER " + path + "`");
  }
  const auto version = system.ioctl(opened->get(), uapi::ioctls::get_api_version, 0);
  if (!version || *version != uapi::api_version) {
    return fail(version ? error{errc::unsupported} : version.error(), "use", path,
                "it speaks another version of VFIO");
  }
  const auto knows = system.ioctl(opened->get(), uapi::ioctls::check_extension, kind);
  if (!knows || *knows != 1) {
    return fail(knows ? error{errc::unsupported} : knows.error(), "use", path, std::move(unknown));
  }
  return std::move(*opened);
}

outcome<const shared_group*> container_domain::join(int number, const std::string& device) {
  auto joined = take_in(number, device);
  if (!joined) {
    return joined;
  }
  if (auto learned = refresh(); !learned) {
    leave(number);
    return std::unexpected{std::move(learned.error())};
  }
  return joined;
}

void container_domain::leave(int number) noexcept {
  const std::scoped_lock lock{mutex()};
  const auto in = std::ranges::find(groups_, number, &group::number);
  CHECK(in != groups_.end());
  if (--in->users != 0) {
    return;
  }
  if (groups_.size() == 1) {
    unmap_all();
    forget_maps();
  }
  groups_.erase(in);  // closed; it leaves the container when its devices are
}

std::vector<owned_group> container_domain::groups() const {
  const std::scoped_lock lock{mutex()};
  std::vector<owned_group> all;
  all.reserve(groups_.size());
  for (const group& each : groups_) {
    all.push_back({.number = each.number, .fd = each.joined->fd()});
  }
  return all;
}

outcome<const shared_group*> container_domain::take_in(int number, const std::string& device) {
  const std::scoped_lock lock{mutex()};
  if (const auto in = std::ranges::find(groups_, number, &group::number); in != groups_.end()) {
    ++in->users;
    return in->joined.get();
  }
  auto opened = open_group(number, device);
  if (!opened) {
    return std::unexpected{std::move(opened.error())};
  }
  auto inside = put_in(std::move(*opened), number, device);
  if (!inside) {
    return std::unexpected{std::move(inside.error())};
  }
  groups_.push_back(
      {.number = number, .users = 1, .joined = std::make_unique<shared_group>(std::move(*inside))});
  return groups_.back().joined.get();
}

outcome<unbound_group> container_domain::open_group(int number, const std::string& device) {
  const std::string node = node_of(number);
  auto opened = system().open(node.c_str(), O_RDWR);
  if (!opened) {
    return fail(opened.error(), "open", object_of(device), open_hint(opened.error(), node, device));
  }
  unbound_group found{system(), std::move(*opened)};
  const auto viable = found.is_viable();
  if (!viable) {
    return fail(viable.error(), "ask for the state of the group of", object_of(device));
  }
  if (!*viable) {
    return fail({errc::busy}, "open", object_of(device),
                "group " + std::to_string(number) +
                    " is not viable, for another of it has a driver: `runnel devices` tells");
  }
  return found;
}

outcome<shared_group> container_domain::put_in(unbound_group opened, int number,
                                               const std::string& device) {
  auto joined = std::move(opened).join(container_.get());
  if (!joined) {
    return fail(joined.error(), "open", object_of(device),
                joined.error() == error{errc::os, EINVAL}
                    ? "it reaches less than what others have mapped already: name it first"
                    : "group " + std::to_string(number) + " cannot be put into " + path());
  }
  if (auto chosen = groups_.empty() ? choose_kind(device) : outcome<>{}; !chosen) {
    return std::unexpected{std::move(chosen.error())};
  }
  if (const auto told = kvm_ == nullptr ? result<>{} : joined->tell(*kvm_); !told) {
    return fail(told.error(), "tell KVM of the group of", object_of(device));
  }
  return std::move(*joined).share();
}

/// The first group decides what kind of IOMMU it is.
outcome<> container_domain::choose_kind(const std::string& device) {
  // EINVAL: it has one, by a group that has left us and whose device is still being closed.
  if (const auto set = system().ioctl(container_.get(), uapi::ioctls::set_iommu, kind());
      !set && set.error() != error{errc::os, EINVAL}) {
    return fail(set.error(), "give an IOMMU to", object_of(device), iommu_hint(set.error()));
  }
  return {};
}

}  // namespace runnel::vfio
