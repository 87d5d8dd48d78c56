#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>

#include "apps/doctor/checks.h"

namespace runnel::doctor {
namespace {

constexpr std::string_view units_folder = "/sys/class/iommu";
constexpr std::string_view groups_folder = "/sys/kernel/iommu_groups";
constexpr unsigned address_bits_min = 39;    // what our memory is placed below
constexpr unsigned address_bits_usual = 48;  // what a process has addresses of

/// Also as the first of several, as in "intel_iommu=on,sm_on".
bool has_boot_word(const pci::file_tree& files, std::string_view word) {
  const std::string line = " " + files.text("/proc/cmdline").value_or("") + " ";
  const auto has = [&line, word](char end) {
    return line.find(fmt::format(" {}{}", word, end)) != std::string::npos;
  };
  return has(' ') || has(',');
}

struct processor {
  bool is_amd = false;
  bool is_virtual = false;  // a hypervisor says that it is one
};

processor read_processor(const pci::file_tree& files) {
  processor found;
  files.each_line("/proc/cpuinfo", [&found](std::string_view line) {
    found.is_amd =
        found.is_amd || (line.starts_with("vendor_id") && line.ends_with("AuthenticAMD"));
    found.is_virtual = found.is_virtual || (line.starts_with("flags") &&
                                            line.find(" hypervisor") != std::string_view::npos);
  });
  return found;
}

/// What to do when firmware or hypervisor show no IOMMU.
check no_hardware(std::string_view id, const pci::file_tree& files) {
  const processor found = read_processor(files);
  if (found.is_virtual) {
    return bad(id, "this virtual machine has no IOMMU",
               "its host has to give it one, as QEMU does by `-device intel-iommu,intremap=on` on "
               "a q35 machine; then boot with intel_iommu=on");
  }
  return bad(id, "the firmware shows no IOMMU",
             found.is_amd ? "switch on AMD-Vi (it may be called IOMMU) in the firmware's setup"
                          : "switch on VT-d in the firmware's setup, then boot with "
                            "intel_iommu=on");
}

/// A unit of Intel's, as its registers tell. @spec Intel VT-d 4.1 §11.4.2
struct unit {
  std::string name;
  unsigned bits = 0;  // of addresses that it translates
};

std::optional<std::uint64_t> read_hex(const pci::file_tree& files, const std::string& path) {
  const auto text = files.text(path);
  std::uint64_t value = 0;
  if (!text) {
    return std::nullopt;
  }
  const char* const end = text->data() + text->size();
  const auto [stop, problem] = std::from_chars(text->data(), end, value, 16);
  return problem == std::errc{} && stop == end ? std::optional{value} : std::nullopt;
}

/// MGAW (bits 21:16) as far as the page tables of SAGAW (bits 12:8) reach.
unsigned address_bits(std::uint64_t capabilities) {
  constexpr std::array<unsigned, 5> by_levels{30, 39, 48, 57, 64};
  unsigned reach = 0;
  for (std::size_t i = 0; i < by_levels.size(); ++i) {
    if ((capabilities >> (8 + i) & 1U) != 0) {
      reach = by_levels[i];
    }
  }
  const unsigned width = static_cast<unsigned>(capabilities >> 16U & 0x3FU) + 1;
  return reach == 0 ? width : std::min(width, reach);
}

std::optional<unit> narrowest_unit(const pci::file_tree& files) {
  std::optional<unit> narrowest;
  for (const std::string& name : files.names(units_folder)) {
    const auto cap = read_hex(files, fmt::format("{}/{}/intel-iommu/cap", units_folder, name));
    if (cap && (!narrowest || address_bits(*cap) < narrowest->bits)) {
      narrowest = unit{.name = name, .bits = address_bits(*cap)};
    }
  }
  return narrowest;
}

}  // namespace

bool has_iommu(const pci::file_tree& files) {
  return std::ranges::any_of(files.names(groups_folder), [&files](const std::string& group) {
    return files.text(fmt::format("{}/{}/name", groups_folder, group)) != "vfio-noiommu";
  });
}

check check_iommu(const machine& here) {
  constexpr std::string_view id = "iommu";
  const pci::file_tree& files = here.files;
  if (has_iommu(files)) {
    const auto units = files.names(units_folder);
    return good(id, units.empty() ? "the kernel has groups of devices"
                                  : fmt::format("{}", fmt::join(units, ", ")));
  }
  for (const char* word : {"intel_iommu=off", "amd_iommu=off", "iommu=off"}) {
    if (has_boot_word(files, word)) {
      return bad(
          id, fmt::format("the kernel was booted with {}", word),
          fmt::format("boot without {}{}", word,
                      *word == 'i' ? ", and with intel_iommu=on on a processor of Intel's" : ""));
    }
  }
  const bool is_intel = files.exists("/sys/firmware/acpi/tables/DMAR");
  if (!is_intel && !files.exists("/sys/firmware/acpi/tables/IVRS")) {
    return no_hardware(id, files);
  }
  if (is_intel && !has_boot_word(files, "intel_iommu=on")) {
    return bad(id, "the kernel does not use the machine's IOMMU (VT-d)",
               "boot with intel_iommu=on: add it to GRUB_CMDLINE_LINUX in /etc/default/grub, run " +
                   as_root(here, "update-grub") + " and reboot");
  }
  return bad(id, "the kernel does not use the machine's IOMMU, although it is not switched off",
             fmt::format("a kernel that is built with {}; `dmesg` may say more",
                         is_intel ? "CONFIG_INTEL_IOMMU" : "CONFIG_AMD_IOMMU"));
}

check check_address_width(const machine& here) {
  constexpr std::string_view id = "address_width";
  const auto found = narrowest_unit(here.files);
  if (!found) {
    return good(id, has_iommu(here.files) ? "the IOMMU does not tell" : "there is no IOMMU");
  }
  const std::string cause = fmt::format("{} translates {} bits", found->name, found->bits);
  if (found->bits >= address_bits_usual) {
    return good(id, cause);
  }
  const std::string wider =
      "a machine with a wider IOMMU, in QEMU `-device intel-iommu,aw-bits=48`";
  if (found->bits < address_bits_min) {
    return bad(id, cause + fmt::format(": our memory may be anywhere below 2^{}", address_bits_min),
               wider);
  }
  return doubtful(id,
                  cause + fmt::format(": a device reaches addresses below 2^{} alone", found->bits),
                  "none is needed for our memory, which is placed there; for that of others, as a "
                  "virtual machine's, " +
                      wider);
}

check check_interrupt_remapping(const machine& here) {
  constexpr std::string_view id = "interrupt_remapping";
  if (!has_iommu(here.files)) {
    return good(id, "there is no IOMMU");
  }
  bool remapped = false;
  here.files.each_line("/proc/interrupts", [&remapped](std::string_view line) {
    remapped = remapped || line.find(" IR-") != std::string_view::npos;
  });
  if (remapped) {
    return good(id, "the IOMMU remaps interrupts");
  }
  std::string refusing;  // switches of what maps memory
  bool allowed = false;
  for (const char* module : {"vfio_iommu_type1", "iommufd"}) {
    const std::string path =
        fmt::format("/sys/module/{}/parameters/allow_unsafe_interrupts", module);
    const auto value = here.files.text(path);
    allowed = allowed || value == "Y";
    if (value == "N") {
      refusing += (refusing.empty() ? "" : " ") + path;
    }
  }
  if (allowed && refusing.empty()) {
    return good(id, "the IOMMU does not remap interrupts, and that is allowed");
  }
  const std::string allow =
      refusing.empty() ? as_root(here, "modprobe vfio_iommu_type1 allow_unsafe_interrupts=1")
                       : as_root_write(here, "1", refusing);
  return bad(id,
             "the IOMMU does not remap interrupts: a device could forge those of others, so VFIO "
             "gives none away (EPERM)",
             fmt::format("if you trust the device, {}; else switch interrupt remapping on in the "
                         "firmware (QEMU: intremap=on)",
                         allow));
}

}  // namespace runnel::doctor
