#include "drivers/pci/names.h"

#include <algorithm>
#include <charconv>

namespace runnel::pci {
namespace {

constexpr std::size_t name_bytes_max = 200;

/// Takes a number of exactly `digits` hexadecimal digits off the front of a line.
std::optional<std::uint32_t> take_id(std::string_view& line, std::size_t digits) noexcept {
  std::uint32_t id = 0;
  const std::string_view text = line.substr(0, digits);
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), id, 16);
  if (text.size() != digits || problem != std::errc{} || stop != text.data() + digits) {
    return std::nullopt;
  }
  line.remove_prefix(digits);
  return id;
}

/// The rest of a line: two spaces and a name, of which nothing may upset a terminal.
std::string name_in(std::string_view rest) {
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  std::string name{rest.substr(0, name_bytes_max)};
  std::ranges::replace_if(
      name, [](char letter) { return (letter >= 0 && letter < ' ') || letter == '\x7f'; }, '?');
  return name;
}

}  // namespace

name_search::name_search(std::span<const identity> wanted)
    : wanted_(wanted.begin(), wanted.end()), found_(wanted.size()) {}

void name_search::take(std::string_view line) {
  if (line.empty() || line[0] == '#') {
    return;
  }
  if (line.starts_with("\t\t")) {
    take_third(line.substr(2));
  } else if (line[0] == '\t') {
    take_second(line.substr(1));
  } else {
    take_top(line);
  }
}

void name_search::take_top(std::string_view line) {
  in_classes_ = line.starts_with("C ");
  line.remove_prefix(in_classes_ ? 2 : 0);
  top_ = take_id(line, in_classes_ ? 2 : 4);
  second_.reset();
  for (std::size_t i = 0; top_ && i < wanted_.size(); ++i) {
    if (in_classes_ && wanted_[i].class_code >> 16U == *top_) {
      found_[i].kind = name_in(line);
    } else if (!in_classes_ && wanted_[i].vendor == *top_) {
      found_[i].vendor = name_in(line);
    }
  }
}

void name_search::take_second(std::string_view line) {
  second_ = top_ ? take_id(line, in_classes_ ? 2 : 4) : std::nullopt;
  for (std::size_t i = 0; second_ && i < wanted_.size(); ++i) {
    const identity& ids = wanted_[i];
    if (in_classes_ && ids.class_code >> 8U == (*top_ << 8U | *second_)) {
      found_[i].kind = name_in(line);  // says more than that of the class
    } else if (!in_classes_ && ids.vendor == *top_ && ids.device == *second_) {
      found_[i].device = name_in(line);
    }
  }
}

void name_search::take_third(std::string_view line) {
  if (!second_ || in_classes_) {  // interfaces of classes are not told
    return;
  }
  const auto vendor = take_id(line, 4);
  line.remove_prefix(line.starts_with(' ') ? 1 : 0);
  const auto device = take_id(line, 4);
  for (std::size_t i = 0; vendor && device && i < wanted_.size(); ++i) {
    const identity& ids = wanted_[i];
    if (ids.vendor == *top_ && ids.device == *second_ && ids.subsystem_vendor == *vendor &&
        ids.subsystem_device == *device) {
      found_[i].subsystem = name_in(line);
    }
  }
}

std::vector<device_names> find_names(const file_tree& files, std::span<const identity> wanted) {
  name_search search{wanted};
  for (const char* path : {"/usr/share/misc/pci.ids", "/usr/share/hwdata/pci.ids"}) {
    if (files.each_line(path, [&search](std::string_view line) { search.take(line); })) {
      break;
    }
  }
  return search.found();
}

}  // namespace runnel::pci
