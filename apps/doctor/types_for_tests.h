#pragma once

#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <string>
#include <string_view>

namespace runnel::doctor {

/// Types of a kernel that is made up, and of a module of it, as bytes of their files.
struct types_for_tests {
  std::string base;
  std::string module;
};

namespace detail {

inline std::string bytes_of(const btf* types) {
  std::uint32_t size = 0;
  const void* const data = btf__raw_data(types, &size);
  return {static_cast<const char*>(data), size};
}

}  // namespace detail

/// The kernel knows `int` and `struct kvm`; the module has `struct vfio_device` with members that
/// are known and one that is not, `struct vfio_pci_core_device` with a bit field, and `struct
/// vfio_log_ops` with an array of unions that have no name.
inline types_for_tests make_types() {
  btf* const base = btf__new_empty();
  const int number = btf__add_int(base, "int", 4, BTF_INT_SIGNED);
  const int kvm = btf__add_struct(base, "kvm", 4);
  btf__add_field(base, "users", number, 0, 0);
  btf* const module = btf__new_empty_split(base);
  const int pointer = btf__add_ptr(module, kvm);
  const int device = btf__add_struct(module, "vfio_device", 24);
  btf__add_field(module, "kvm", pointer, 0, 0);
  btf__add_field(module, "open_count", number, 64, 0);
  btf__add_field(module, "tomorrow", number, 96, 0);
  const int function = btf__add_func_proto(module, number);
  btf__add_func_param(module, "device", pointer);
  const int operation = btf__add_ptr(module, function);
  btf__add_struct(module, "vfio_device_ops", 8);
  btf__add_field(module, "init", operation, 0, 0);
  btf__add_struct(module, "vfio_pci_core_device", 32);
  btf__add_field(module, "vdev", device, 0, 0);
  btf__add_field(module, "nointx", number, 192, 1);
  const int either = btf__add_union(module, "", 8);
  btf__add_field(module, "one", number, 0, 0);
  btf__add_field(module, "other", operation, 0, 0);
  const int several = btf__add_array(module, number, btf__add_const(module, either), 3);
  btf__add_struct(module, "vfio_log_ops", 24);
  btf__add_field(module, "choices", several, 0, 0);
  types_for_tests made{.base = detail::bytes_of(base), .module = detail::bytes_of(module)};
  btf__free(module);
  btf__free(base);
  return made;
}

}  // namespace runnel::doctor
