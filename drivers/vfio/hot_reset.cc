#include "drivers/vfio/hot_reset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "drivers/vfio/capability_chain.h"
#include "drivers/vfio/uapi/vfio.h"

namespace runnel::vfio {
namespace {

constexpr const char* hot_reset_action = "reset the bus of";

[[nodiscard]] hot_reset_function function_of(const uapi::pci_dependent_device& told) {
  return {.address = fmt::format("{:04x}:{:02x}:{:02x}.{:x}", told.segment, told.bus,
                                 told.devfn >> 3U, told.devfn & 7U),
          .group_or_id = told.group_id};
}

[[nodiscard]] std::unexpected<failure> missing(const std::string& what, const std::string& address,
                                               const std::string& object) {
  return fail({errc::busy}, hot_reset_action, object,
              fmt::format("{} is not ours: run `runnel bind {}` and open it here", what, address));
}

/// The root bus gives the first; the second, a bridge that cannot reset what is behind it, which
/// may be found out only by trying.
[[nodiscard]] std::unexpected<failure> refused(error what, const std::string& object) {
  const bool none = what == error{errc::os, ENODEV} || what == error{errc::os, ENOTTY};
  return none ? fail({errc::unsupported}, hot_reset_action, object, "nothing above it can")
              : fail(what, hot_reset_action, object);
}

/// With room for all functions that are looked at.
[[nodiscard]] result<hot_reset_info> ask_hot_reset_info(syscalls& system, int device) {
  std::vector<std::byte> reply(sizeof(uapi::pci_hot_reset_info) +
                               hot_reset_functions_max * sizeof(uapi::pci_dependent_device));
  const uapi::pci_hot_reset_info head{
      .argsz = static_cast<std::uint32_t>(reply.size()), .flags = 0, .count = 0};
  std::memcpy(reply.data(), &head, sizeof(head));
  if (const auto asked =
          ioctl_on(system, device, uapi::ioctls::device_get_pci_hot_reset_info, *reply.data());
      !asked) {
    return std::unexpected{asked.error()};
  }
  return parse_hot_reset_info(reply);
}

}  // namespace

result<hot_reset_info> parse_hot_reset_info(std::span<const std::byte> reply) {
  const auto head = read_front<uapi::pci_hot_reset_info>(reply);
  if (!head || head->count == 0 || head->count > hot_reset_functions_max ||
      head->count > (reply.size() - sizeof(*head)) / sizeof(uapi::pci_dependent_device)) {
    return fail(errc::protocol);
  }
  const bool by_iommufd = (head->flags & uapi::hot_reset_flags::dev_id) != 0;
  hot_reset_info told{
      .by_iommufd = by_iommufd,
      .owned = by_iommufd && (head->flags & uapi::hot_reset_flags::dev_id_owned) != 0,
      .functions = {}};
  reply = reply.subspan(sizeof(*head));
  for (std::uint32_t i = 0; i < head->count; ++i) {
    told.functions.push_back(function_of(*read_front<uapi::pci_dependent_device>(reply)));
    reply = reply.subspan(sizeof(uapi::pci_dependent_device));
  }
  return told;
}

outcome<std::vector<std::int32_t>> plan_hot_reset(const hot_reset_info& told,
                                                  std::span<const owned_group> ours,
                                                  const std::string& object) {
  std::vector<std::int32_t> proof;
  for (const hot_reset_function& each : told.functions) {
    if (told.by_iommufd) {
      if (each.group_or_id == uapi::pci_devid_not_owned) {
        return missing(each.address, each.address, object);
      }
      continue;
    }
    const auto group = std::ranges::find_if(ours, [&](const owned_group& one) {
      return static_cast<std::uint32_t>(one.number) == each.group_or_id;
    });
    if (group == ours.end()) {
      return missing(fmt::format("{} of group {}", each.address, each.group_or_id), each.address,
                     object);
    }
    if (std::ranges::find(proof, group->fd) == proof.end()) {
      proof.push_back(group->fd);
    }
  }
  if (told.by_iommufd && !told.owned) {
    return fail({errc::busy}, hot_reset_action, object, "something behind its bridge is not ours");
  }
  return proof;
}

outcome<> do_hot_reset(syscalls& system, int device, std::span<const owned_group> ours,
                       const std::string& object) {
  const auto told = ask_hot_reset_info(system, device);
  if (!told) {
    return refused(told.error(), object);
  }
  const auto proof = plan_hot_reset(*told, ours, object);
  if (!proof) {
    return std::unexpected{proof.error()};
  }
  const std::size_t bytes = sizeof(uapi::pci_hot_reset) + proof->size() * sizeof(std::int32_t);
  const uapi::pci_hot_reset head{.argsz = static_cast<std::uint32_t>(bytes),
                                 .flags = 0,
                                 .count = static_cast<std::uint32_t>(proof->size())};
  std::vector<std::byte> asked(bytes);
  std::memcpy(asked.data(), &head, sizeof(head));
  std::ranges::copy(std::as_bytes(std::span{*proof}), asked.begin() + sizeof(head));
  const auto done = ioctl_on(system, device, uapi::ioctls::device_pci_hot_reset, *asked.data());
  return done ? outcome<>{} : refused(done.error(), object);
}

}  // namespace runnel::vfio
