#include "drivers/pci/device.h"

#include <algorithm>
#include <cerrno>
#include <charconv>

namespace runnel::pci {
namespace {

constexpr std::string_view devices_folder = "/sys/bus/pci/devices";
constexpr std::string_view no_iommu_name = "vfio-noiommu";  // how VFIO calls groups it made up
constexpr std::size_t virtual_functions_max = 65536;

/// Takes a number off the front of `text`: hexadecimal after 0x, decimal otherwise.
template <class T>
std::optional<T> take_number(std::string_view& text) noexcept {
  const bool hex = text.starts_with("0x");
  const char* const begin = text.data() + (hex ? 2 : 0);
  const char* const end = text.data() + text.size();
  T value{};
  const auto [stop, problem] = std::from_chars(begin, end, value, hex ? 16 : 10);
  if (problem != std::errc{}) {
    return std::nullopt;
  }
  text.remove_prefix(static_cast<std::size_t>(stop - text.data()));
  return value;
}

template <class T>
std::optional<T> parse_number(std::string_view text) noexcept {
  const auto value = take_number<T>(text);
  return text.empty() ? value : std::nullopt;
}

/// Reads one device; remembers the first file that did not say what it should.
class device_reader {
 public:
  device_reader(const file_tree& files, const address& where)
      : files_{files}, folder_{folder_of(where)} {
    found_.where = where;
  }

  outcome<device> read() {
    read_identity();
    found_.driver = link_name("driver");
    found_.iommu = link_name("iommu");
    if (const auto text = optional_text("driver_override"); text && *text != "(null)") {
      found_.driver_override = *text;
    }
    read_group();
    read_numa_node();
    read_vfio_name();
    read_resources();
    read_functions();
    if (!wrong_.empty()) {
      const bool gone = !files_.exists(folder_);  // in the middle of our reading
      return gone ? refuse({errc::not_found}, "`runnel devices` lists what there is")
                  : refuse({errc::protocol}, folder_ + "/" + wrong_ + " is not as it should be");
    }
    return std::move(found_);
  }

 private:
  std::unexpected<failure> refuse(error what, std::string hint) const {
    return fail(what, "read", name_of(found_.where), std::move(hint));
  }

  void blame(std::string_view file) {
    if (wrong_.empty()) {
      wrong_ = file;
    }
  }

  std::string at(std::string_view file) const { return folder_ + "/" + std::string{file}; }

  std::string link_name(std::string_view file) const {
    return files_.link_name(at(file)).value_or("");
  }

  /// Empty when there is no such file: kernels and devices differ in what they tell.
  std::optional<std::string> optional_text(std::string_view file) {
    auto text = files_.text(at(file));
    if (text) {
      return std::move(*text);
    }
    if (text.error() != error{errc::os, ENOENT}) {
      blame(file);
    }
    return std::nullopt;
  }

  template <class T>
  T number(std::string_view file) {
    const auto text = files_.text(at(file));
    const auto value = text ? parse_number<T>(*text) : std::nullopt;
    if (!value) {
      blame(file);
    }
    return value.value_or(0);
  }

  void read_identity() {
    found_.ids = {.class_code = number<std::uint32_t>("class"),
                  .vendor = number<std::uint16_t>("vendor"),
                  .device = number<std::uint16_t>("device"),
                  .subsystem_vendor = number<std::uint16_t>("subsystem_vendor"),
                  .subsystem_device = number<std::uint16_t>("subsystem_device")};
    if (found_.ids.class_code > 0xff'ffff) {
      blame("class");
    }
  }

  void read_group() {
    const auto name = files_.link_name(at("iommu_group"));
    if (!name) {
      return;
    }
    found_.group = parse_number<std::uint32_t>(*name);
    if (!found_.group) {
      blame("iommu_group");
      return;
    }
    found_.no_iommu = optional_text("iommu_group/name") == no_iommu_name;
    for (std::string& member : files_.names(at("iommu_group/devices"))) {
      std::string driver = link_name("iommu_group/devices/" + member + "/driver");
      found_.members.push_back({.name = std::move(member), .driver = std::move(driver)});
    }
  }

  void read_numa_node() {
    const auto text = optional_text("numa_node");
    if (!text || *text == "-1") {
      return;
    }
    found_.numa_node = parse_number<std::uint32_t>(*text);
    if (!found_.numa_node) {
      blame("numa_node");
    }
  }

  void read_vfio_name() {
    const auto names = files_.names(at("vfio-dev"));
    found_.vfio_name = names.empty() ? "" : names.front();
  }

  /// Lines of `start end flags`.
  void read_resources() {
    const auto text = optional_text("resource");
    std::string_view rest = text ? std::string_view{*text} : std::string_view{};
    for (std::size_t i = 0; i < resources_max && !rest.empty(); ++i) {
      const auto start = take_number<std::uint64_t>(rest);
      const auto end = take_field(rest);
      const auto flags = take_field(rest);
      if (!start || !end || !flags || *end < *start || (!rest.empty() && rest[0] != '\n')) {
        blame("resource");
        return;
      }
      rest.remove_prefix(rest.empty() ? 0 : 1);
      const bool absent = *flags == 0;
      found_.resources[i] =
          absent ? resource{}
                 : resource{.start = *start, .bytes = *end - *start + 1, .flags = *flags};
    }
  }

  static std::optional<std::uint64_t> take_field(std::string_view& text) noexcept {
    if (!text.starts_with(' ')) {
      return std::nullopt;
    }
    text.remove_prefix(1);
    return take_number<std::uint64_t>(text);
  }

  std::optional<address> linked_device(std::string_view file) {
    const auto name = files_.link_name(at(file));
    const auto where = name ? parse_address(*name) : std::nullopt;
    if (name && !where) {
      blame(file);
    }
    return where;
  }

  void read_functions() {
    found_.physical_function = linked_device("physfn");
    for (std::size_t i = 0; i < virtual_functions_max; ++i) {
      const auto where = linked_device("virtfn" + std::to_string(i));
      if (!where) {
        break;
      }
      found_.virtual_functions.push_back(*where);
    }
  }

  const file_tree& files_;
  std::string folder_;
  device found_;
  std::string wrong_;
};

/// Drivers that leave DMA to others, and so may stay in a group that is used by a process.
bool is_harmless(std::string_view driver) noexcept {
  return driver.empty() || driver == "pcieport" || driver == "pci-stub" ||
         driver.find("vfio") != std::string_view::npos;  // mlx5_vfio_pci and others of the family
}

}  // namespace

std::string name_of(const address& where) {
  return "pci:" + to_string(where);
}

std::string folder_of(const address& where) {
  return std::string{devices_folder} + "/" + to_string(where);
}

std::vector<address> list_devices(const file_tree& files) {
  std::vector<address> found;
  for (const std::string& name : files.names(devices_folder)) {
    if (const auto where = parse_address(name)) {
      found.push_back(*where);
    }
  }
  std::ranges::sort(found);
  return found;
}

outcome<device> read_device(const file_tree& files, const address& where) {
  return device_reader{files, where}.read();
}

std::vector<group_member> obstacles(const device& which) {
  std::vector<group_member> found;
  for (const group_member& member : which.members) {
    if (member.name != to_string(which.where) && !is_harmless(member.driver)) {
      found.push_back(member);
    }
  }
  return found;
}

}  // namespace runnel::pci
