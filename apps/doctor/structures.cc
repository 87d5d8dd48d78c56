#include "apps/doctor/structures.h"

#include <algorithm>
#include <utility>

#include "apps/doctor/known_structures.h"
#include "apps/doctor/machine.h"

namespace runnel::doctor {
namespace {

/// What the parts of a PCI device that all of its drivers share are in from 5.15 on.
constexpr const char* core_device = "vfio_pci_core_device";
constexpr std::string_view old_core_device = "vfio_pci_device";

std::vector<std::string_view> kernels_with(const known_structure& which, std::string_view name) {
  std::vector<std::string_view> kernels;
  for (std::size_t i = 0; i < which.kernels.size(); ++i) {
    if (std::ranges::any_of(which.fields, [i, name](const known_field& each) {
          return each.first <= i && i <= each.last && declared_name(each.declaration) == name;
        })) {
      kernels.push_back(which.kernels[i]);
    }
  }
  return kernels;
}

/// Members with where else they are known, and those known that are not among them.
void compare(const known_structure& known, std::vector<field> fields, structure& into) {
  for (field& each : fields) {
    auto kernels = kernels_with(known, each.name);
    into.members.push_back({.what = std::move(each), .known_of = std::move(kernels)});
  }
  for (const known_field& each : known.fields) {
    const std::string_view name = declared_name(each.declaration);
    const auto is_it = [name](const auto& other) { return other == name; };
    const auto name_of = [](const member& one) -> std::string_view { return one.what.name; };
    const auto absent_name = [](const lacking& one) { return declared_name(one.declaration); };
    if (std::ranges::none_of(into.members, is_it, name_of) &&
        std::ranges::none_of(into.absent, is_it, absent_name)) {
      into.absent.push_back(
          {.declaration = each.declaration, .known_of = kernels_with(known, name)});
    }
  }
}

structure told_structure(const known_structure& known, const kernel_types& types) {
  structure one;
  one.name = known.name;
  auto found = types.find(one.name);
  if (!found && known.name == old_core_device) {
    one.name = core_device;
    found = types.find(one.name);
  }
  if (found) {
    one.from = std::move(found->from);
    one.bytes = found->bytes;
  }
  compare(known, found ? std::move(found->fields) : std::vector<field>{}, one);
  return one;
}

structure known_only(const known_structure& known, std::string_view release,
                     const std::string& why) {
  const std::size_t nearest = nearest_kernel(known, release);
  structure one;
  one.name = known.name;
  one.from = known.kernels[nearest];
  one.why_known = why;
  std::vector<field> fields;
  for (const known_field& each : known.fields) {
    if (each.first <= nearest && nearest <= each.last) {
      fields.push_back({.name = std::string{declared_name(each.declaration)},
                        .declaration = std::string{each.declaration}});
    }
  }
  compare(known, std::move(fields), one);
  return one;
}

outcome<kernel_types> types_of(const outcome<kernel_files>& files) {
  return files ? kernel_types::load(*files) : std::unexpected{files.error()};
}

}  // namespace

std::vector<structure> describe_structures(const outcome<kernel_types>& told,
                                           std::string_view release) {
  std::vector<structure> all;
  for (const known_structure& known : known_structures()) {
    all.push_back(told ? told_structure(known, *told)
                       : known_only(known, release, told.error().message()));
    all.back().kernel = release;
  }
  return all;
}

std::vector<structure> running_structures(const pci::file_tree& files) {
  auto types = types_of(running_kernel(files));
  if (types && !types->find("vfio_device")) {
    types = fail({errc::not_found}, "read types of", "VFIO",
                 files.exists("/sys/module/vfio")
                     ? "its module tells none: a kernel of 5.11 or later that is built with "
                       "CONFIG_DEBUG_INFO_BTF_MODULES does"
                     : "it is not in the kernel now: `modprobe vfio-pci`");
  }
  return describe_structures(types, kernel_release(files));
}

outcome<std::vector<structure>> packaged_structures(const std::string& folder) {
  const auto files = packaged_kernel(folder);
  if (!files) {
    return std::unexpected{files.error()};
  }
  const auto types = kernel_types::load(*files);
  if (!types && types.error().what.code != errc::not_found) {
    return std::unexpected{types.error()};
  }
  return describe_structures(types, files->release);
}

}  // namespace runnel::doctor
