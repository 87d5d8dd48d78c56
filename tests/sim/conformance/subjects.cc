#include <sys/utsname.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "mempool/base/check.h"
#include "mempool/base/units.h"
#include "tests/sim/conformance/kernel_subject.h"
#include "tests/sim/conformance/subject.h"
#include "tests/sim/conformance/vfio_user_subject.h"

namespace runnel::sim {
namespace {

[[nodiscard]] subject_kind fake_kind(way how, unsigned version = 612) {
  const std::string name{way_names[static_cast<std::size_t>(how)]};
  return {.name = "fake_" + name + (version == 612 ? "" : "_" + std::to_string(version)),
          .how = how,
          .kernel_version = version,
          .make = [name, version] {
            return std::make_unique<kernel_subject>("pci:0000:01:00.0?via=" + name,
                                                    std::make_unique<fake_computer>(version));
          }};
}

/// Of the kernel that we run on: 612 for "6.12.95".
[[nodiscard]] unsigned running_version() {
  utsname names{};
  CHECK(::uname(&names) == 0);
  std::istringstream words{names.release};
  unsigned major = 0;
  unsigned minor = 0;
  char dot = 0;
  words >> major >> dot >> minor;
  return major * 100 + minor;
}

[[nodiscard]] subject_kind real_kind(const std::string& address) {
  const std::string via = address.substr(address.rfind('=') + 1);
  const auto known = std::ranges::find(way_names, via);
  CHECK(known != way_names.end());  // say which way: "?via=group"
  return {.name = "real_" + via,
          .how = static_cast<way>(known - way_names.begin()),
          .kernel_version = running_version(),
          .make = [address] { return std::make_unique<kernel_subject>(address); }};
}

}  // namespace

const std::vector<subject_kind>& subject_kinds() {
  static const std::vector<subject_kind> all = [] {
    std::vector<subject_kind> kinds{fake_kind(way::group),      fake_kind(way::compat),
                                    fake_kind(way::cdev),       fake_kind(way::group, 510),
                                    fake_kind(way::group, 601), fake_kind(way::group, 702)};
    kinds.push_back({.name = "vfio_user", .how = way::vfio_user, .make = [] {
                       return std::make_unique<vfio_user_subject>();
                     }});
    const char* const named = std::getenv("RUNNEL_CONFORMANCE");
    std::istringstream words{named == nullptr ? "" : named};
    for (std::string each; words >> each;) {
      kinds.push_back(real_kind(each));
    }
    return kinds;
  }();
  return all;
}

holdings held_by_process() {
  holdings all;
  const std::filesystem::directory_iterator fds{"/proc/self/fd"};
  all.fds = static_cast<std::size_t>(std::distance(begin(fds), end(fds)));
  std::ifstream maps{"/proc/self/maps"};
  for (std::string line; std::getline(maps, line);) {
    const bool nameless = line.find("anon_inode:") != std::string::npos ||
                          line.find("/memfd:") != std::string::npos ||
                          line.find(" /dev/") != std::string::npos;
    all.maps += nameless ? 1 : 0;
  }
  std::ifstream status{"/proc/self/status"};
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmLck:") || line.starts_with("VmPin:")) {
      all.pinned += std::stoull(line.substr(line.find_first_of("0123456789"))) * kib;
    }
  }
  return all;
}

}  // namespace runnel::sim
