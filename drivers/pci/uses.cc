#include "drivers/pci/uses.h"

#include <algorithm>

#include "drivers/pci/block_uses.h"
#include "drivers/pci/network_uses.h"

namespace runnel::pci {
namespace {

bool has_open(const file_tree& files, const std::string& process, std::string_view path) {
  const std::string folder = "/proc/" + process + "/fd/";
  return std::ranges::any_of(
      files.names(folder), [&](const std::string& fd) { return files.link(folder + fd) == path; });
}

}  // namespace

std::vector<use> uses_of(const file_tree& files, const device& which) {
  std::vector<use> found = block_uses(files, which.where);
  std::ranges::move(network_uses(files, which.where), std::back_inserter(found));
  if (!which.virtual_functions.empty()) {
    found.push_back(
        {"it has virtual functions, " + to_string(which.virtual_functions[0]) + " first",
         "`echo 0 > " + folder_of(which.where) + "/sriov_numvfs` first"});
  }
  return found;
}

std::vector<std::string> holders_of(const file_tree& files, std::string_view path) {
  std::vector<std::string> found;
  for (const std::string& process : files.names("/proc")) {
    if (process.find_first_not_of("0123456789") == std::string::npos &&
        has_open(files, process, path)) {
      const auto name = files.text("/proc/" + process + "/comm");
      found.push_back(name.value_or("a process") + " (pid " + process + ")");
    }
  }
  return found;
}

}  // namespace runnel::pci
