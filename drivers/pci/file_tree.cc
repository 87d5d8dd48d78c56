#include "drivers/pci/file_tree.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <climits>
#include <filesystem>
#include <fstream>
#include <limits>

#include "mempool/base/unique_fd.h"

namespace runnel::pci {
namespace {

bool is_plain(std::string_view text) noexcept {
  return std::ranges::all_of(
      text, [](char letter) { return letter == '\n' || (letter >= ' ' && letter <= '~'); });
}

}  // namespace

std::string file_tree::real(std::string_view path) const {
  return root_ + std::string{path};
}

result<std::string> file_tree::text(std::string_view path) const {
  const unique_fd fd{open(real(path).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (!fd) {
    return std::unexpected{os_error()};
  }
  std::string text(text_bytes_max + 1, '\0');
  const ssize_t bytes = read(fd.get(), text.data(), text.size());  // sysfs gives all at once
  if (bytes < 0) {
    return std::unexpected{os_error()};
  }
  text.resize(static_cast<std::size_t>(bytes));
  if (text.size() > text_bytes_max || !is_plain(text)) {
    return fail(errc::protocol);
  }
  if (text.ends_with('\n')) {
    text.pop_back();
  }
  return text;
}

bool file_tree::each_line(std::string_view path,
                          const std::function<void(std::string_view)>& take) const {
  std::ifstream file{real(path)};
  if (!file) {
    return false;
  }
  std::array<char, line_bytes_max + 1> line{};
  while (!file.eof()) {
    file.getline(line.data(), line.size());
    if (file.bad() || (file.eof() && file.gcount() == 0)) {
      break;
    }
    if (file.fail()) {  // the line is longer
      file.clear();
      file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
    }
    take(line.data());
  }
  return true;
}

std::optional<std::string> file_tree::link(std::string_view path) const {
  std::string target(PATH_MAX, '\0');
  const ssize_t bytes = readlink(real(path).c_str(), target.data(), target.size());
  if (bytes < 0) {
    return std::nullopt;
  }
  target.resize(static_cast<std::size_t>(bytes));
  return target;
}

std::optional<std::string> file_tree::link_name(std::string_view path) const {
  const auto target = link(path);
  if (!target || !is_plain(*target)) {
    return std::nullopt;
  }
  return target->substr(target->rfind('/') + 1);
}

std::vector<std::string> file_tree::names(std::string_view folder) const {
  std::vector<std::string> found;
  std::error_code problem;
  std::filesystem::directory_iterator entry{real(folder), problem};
  const std::filesystem::directory_iterator end;
  for (; !problem && entry != end; entry.increment(problem)) {
    found.push_back(entry->path().filename().string());
  }
  std::ranges::sort(found);
  return found;
}

bool file_tree::exists(std::string_view path) const {
  return faccessat(AT_FDCWD, real(path).c_str(), F_OK, AT_EACCESS) == 0;
}

bool file_tree::may_open(std::string_view path) const {
  return faccessat(AT_FDCWD, real(path).c_str(), R_OK | W_OK, AT_EACCESS) == 0;
}

bool leads_through(std::string_view path, std::string_view folder) noexcept {
  for (;;) {
    const std::size_t slash = path.find('/');
    if (slash == std::string_view::npos) {
      return false;
    }
    if (path.substr(0, slash) == folder) {
      return true;
    }
    path.remove_prefix(slash + 1);
  }
}

}  // namespace runnel::pci
