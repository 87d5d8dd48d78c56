#include "drivers/pci/network_uses.h"

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace runnel::pci {
namespace {

constexpr std::string_view interfaces_folder = "/sys/class/net/";

std::string_view first_word(std::string_view line) noexcept {
  return line.substr(0, line.find_first_of(" \t"));
}

std::string_view last_word(std::string_view line) noexcept {
  line = line.substr(0, line.find_last_not_of(' ') + 1);
  return line.substr(line.find_last_of(" \t") + 1);
}

/// Every interface that is up has a link-local address and routes for that and for multicast.
bool is_automatic(std::string_view ipv6) noexcept {
  return ipv6.starts_with("fe80") || ipv6.starts_with("ff");
}

bool has_address_or_route(const file_tree& files, std::string_view interface) {
  bool found = false;
  files.each_line("/proc/net/route", [&](std::string_view line) {
    found |= first_word(line) == interface;  // the interface comes first
  });
  for (const char* path : {"/proc/net/ipv6_route", "/proc/net/if_inet6"}) {
    files.each_line(path, [&](std::string_view line) {  // the address first, the interface last
      found |= last_word(line) == interface && !is_automatic(line);
    });
  }
  return found;
}

/// The bond, bridge or VLAN that an interface serves; empty: none.
std::string upper_of(const file_tree& files, const std::string& interface) {
  constexpr std::string_view prefix = "upper_";
  const std::string folder = std::string{interfaces_folder} + interface;
  for (const std::string& name : files.names(folder)) {
    if (name.starts_with(prefix)) {
      return name.substr(prefix.size());
    }
  }
  return files.link_name(folder + "/master").value_or("");
}

}  // namespace

std::vector<use> network_uses(const file_tree& files, const address& where) {
  std::vector<use> found;
  for (const std::string& interface : files.names(interfaces_folder)) {
    const auto path = files.link(std::string{interfaces_folder} + interface);
    if (!path || !leads_through(*path, to_string(where))) {
      continue;
    }
    if (has_address_or_route(files, interface)) {
      found.push_back({fmt::format("{} has an address or a route", interface),
                       fmt::format("`ip address flush dev {}` first", interface)});
    }
    if (const std::string upper = upper_of(files, interface); !upper.empty()) {
      found.push_back({fmt::format("{} is part of {}", interface, upper),
                       fmt::format("take {} out of it first", interface)});
    }
  }
  return found;
}

}  // namespace runnel::pci
