#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/doctor/kernel_types.h"

namespace runnel::doctor {

/// A member of a structure that a kernel has.
struct member {
  field what;
  std::vector<std::string_view> known_of;  // kernels whose known structure has it, too
};

/// A member that a kernel's structure lacks.
struct lacking {
  std::string_view declaration;
  std::vector<std::string_view> known_of;
};

/// A structure of VFIO in a kernel, beside what is known of it in others.
struct structure {
  std::string name;
  std::string kernel;       // whose it is: its release
  std::string from;         // the file that tells of it, or the kernel that it is known of
  std::string why_known;    // why that is all that can be told; empty: the kernel told it
  std::uint32_t bytes = 0;  // 0 when only its members are known, or there is none of that name
  std::vector<member> members;
  std::vector<lacking> absent;

  [[nodiscard]] bool is_told() const noexcept { return why_known.empty(); }
};

/// What a kernel tells of VFIO's structures; or, when it tells nothing, what is known of the one
/// that is nearest to it, and why.
[[nodiscard]] std::vector<structure> describe_structures(const outcome<kernel_types>& told,
                                                         std::string_view release);

/// Those of the running kernel.
[[nodiscard]] std::vector<structure> running_structures(const pci::file_tree& files);
/// Those of a kernel whose packages are unpacked in a folder.
/// @error as of packaged_kernel and kernel_types::load; that it tells nothing is none
[[nodiscard]] outcome<std::vector<structure>> packaged_structures(const std::string& folder);

}  // namespace runnel::doctor
