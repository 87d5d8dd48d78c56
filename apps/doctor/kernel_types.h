#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "drivers/pci/file_tree.h"

struct btf;  // of libbpf

// What a kernel says of its own types: BTF, in its own file and in one for each module.
namespace runnel::doctor {

/// A member of a structure of the kernel.
struct field {
  std::string name;         // empty: an unnamed structure or union
  std::string declaration;  // in C, on one line, without the semicolon
  std::uint32_t offset_bits = 0;
  std::uint32_t bits = 0;  // of a bit field; 0: it is none
};

struct layout {
  std::string from;  // the file that says so
  std::uint32_t bytes = 0;
  std::vector<field> fields;
};

/// Where the types of a kernel are told.
struct kernel_files {
  std::string release;
  std::string base;                  // its own file
  std::vector<std::string> modules;  // whose types build on those; the most likely ones first
  bool packed = false;               // as in packages, not as in /sys
};

/// @error not_found: the kernel tells nothing of its types, or VFIO is not in it now
[[nodiscard]] outcome<kernel_files> running_kernel(const pci::file_tree& files);
/// @param folder  in which packages of one kernel are unpacked
/// @error not_found: they tell nothing; invalid: there is no kernel, or there are several
[[nodiscard]] outcome<kernel_files> packaged_kernel(const std::string& folder);

/// The types of VFIO in a kernel.
class kernel_types {
 public:
  /// @error not_found: the files are there, but have no types in them; protocol, os
  [[nodiscard]] static outcome<kernel_types> load(const kernel_files& from);

  /// A structure by its name.
  [[nodiscard]] std::optional<layout> find(const std::string& name) const;

 private:
  struct end {
    void operator()(btf* one) const noexcept;
  };
  struct part {
    std::string path;
    std::unique_ptr<btf, end> types;
  };

  [[nodiscard]] static outcome<part> read(const std::string& path, bool packed, btf* base);

  part base_;  // outlives those that build on it
  std::vector<part> modules_;
};

}  // namespace runnel::doctor
