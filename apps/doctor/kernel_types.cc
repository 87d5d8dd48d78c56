#include "apps/doctor/kernel_types.h"

#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <utility>

#include "apps/doctor/kernel_image.h"
#include "apps/doctor/machine.h"
#include "apps/doctor/sound_types.h"

namespace runnel::doctor {
namespace {

namespace fs = std::filesystem;

constexpr const char* told_by = "/sys/kernel/btf";

std::unexpected<failure> refuse(errc why, std::string object, std::string hint) {
  return fail({why}, "read types of", std::move(object), std::move(hint));
}

bool is_there(const std::string& path) {
  std::error_code none;
  return fs::exists(path, none);
}

/// Releases of the kernels whose modules are below a folder.
std::vector<std::string> list_releases(const std::string& modules_folder) {
  return pci::file_tree{}.names(modules_folder);
}

/// The first file below a folder that is called so, whatever it is packed with.
std::optional<std::string> find_module(const std::string& folder, const std::string& name) {
  std::error_code problem;
  fs::recursive_directory_iterator entry{folder, problem};
  for (; !problem && entry != fs::recursive_directory_iterator{}; entry.increment(problem)) {
    const std::string file = entry->path().filename().string();
    if (file == name + ".ko" || file.starts_with(name + ".ko.")) {
      return entry->path().string();
    }
  }
  return std::nullopt;
}

struct printed {
  std::string text;
};

/// As libbpf asks for output. It writes parts of a declaration, of which none is long.
[[gnu::format(printf, 2, 0)]] void print_into(void* context, const char* format, va_list words) {
  std::array<char, 1024> part{};
  vsnprintf(part.data(), part.size(), format, words);
  static_cast<printed*>(context)->text += part.data();
}

/// Without what libbpf tells types of one name apart by: "struct inode___2" is "struct inode".
std::string without_numbers(std::string text) {
  constexpr std::string_view mark = "___";
  constexpr const char* digits = "0123456789";
  for (std::size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at)) {
    const std::size_t number = at + mark.size();
    const std::size_t stop = std::min(text.find_first_not_of(digits, number), text.size());
    if (stop == number) {
      at = number;  // a name of the kernel's own
    } else {
      text.erase(at, stop - at);
    }
  }
  return text;
}

/// With each run of blanks and ends of lines as one blank.
std::string on_one_line(std::string_view text) {
  std::string line;
  for (const char letter : text) {
    const bool blank = letter == ' ' || letter == '\n' || letter == '\t';
    if (!blank) {
      line += letter;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  line.resize(line.find_last_not_of(' ') + 1);
  return line;
}

std::string declare(btf_dump* dump, printed& out, std::uint32_t type, const field& of) {
  out.text.clear();
  btf_dump_emit_type_decl_opts options{};
  options.sz = sizeof options;
  options.field_name = of.name.c_str();
  if (btf_dump__emit_type_decl(dump, type, &options) != 0) {
    return of.name;
  }
  return without_numbers(on_one_line(out.text)) +
         (of.bits == 0 ? "" : fmt::format(": {}", of.bits));
}

std::vector<field> fields_of(const btf* types, const btf_type* structure) {
  printed out;
  btf_dump* const dump = btf_dump__new(types, print_into, &out, nullptr);
  std::vector<field> fields;
  for (std::uint32_t i = 0; dump != nullptr && i < btf_vlen(structure); ++i) {
    const btf_member& member = btf_members(structure)[i];
    const char* const name = btf__name_by_offset(types, member.name_off);
    field one{.name = name == nullptr ? "" : name,
              .declaration = {},
              .offset_bits = btf_member_bit_offset(structure, i),
              .bits = btf_member_bitfield_size(structure, i)};
    one.declaration = declare(dump, out, member.type, one);
    fields.push_back(std::move(one));
  }
  btf_dump__free(dump);
  return fields;
}

}  // namespace

outcome<kernel_files> running_kernel(const pci::file_tree& files) {
  kernel_files found{.release = kernel_release(files), .base = {}, .modules = {}, .packed = false};
  const std::string base = std::string{told_by} + "/vmlinux";
  if (!files.exists(base)) {
    return refuse(errc::not_found, "Linux " + found.release,
                  fmt::format("there is no {}: a kernel that is built with CONFIG_DEBUG_INFO_BTF "
                              "tells them, or its packages with --btf",
                              base));
  }
  found.base = files.real(base);
  for (const char* module : {"vfio_pci_core", "vfio_pci", "vfio"}) {
    if (const std::string path = fmt::format("{}/{}", told_by, module); files.exists(path)) {
      found.modules.push_back(files.real(path));
    }
  }
  return found;
}

outcome<kernel_files> packaged_kernel(const std::string& folder) {
  kernel_files found{.release = {}, .base = {}, .modules = {}, .packed = true};
  std::string modules;
  for (const char* place : {"/usr/lib/modules", "/lib/modules"}) {
    const auto releases = list_releases(folder + place);
    if (releases.size() > 1) {
      return refuse(
          errc::invalid, folder,
          fmt::format("it has several kernels, {}: unpack one alone", fmt::join(releases, ", ")));
    }
    if (releases.size() == 1) {
      found.release = releases[0];
      modules = folder + place + "/" + found.release;
    }
  }
  if (found.release.empty()) {
    return refuse(errc::invalid, folder,
                  "it has no lib/modules: unpack a linux-image package there, by `dpkg-deb -x`");
  }
  const std::array bases{folder + "/vmlinux", folder + "/boot/vmlinuz-" + found.release,
                         modules + "/vmlinuz",
                         folder + "/usr/lib/debug/boot/vmlinux-" + found.release};
  const auto* const base = std::ranges::find_if(bases, is_there);
  if (base == bases.end()) {
    return refuse(errc::invalid, folder, "it has modules, but no kernel: " + bases[1]);
  }
  found.base = *base;
  for (const char* module : {"vfio-pci-core", "vfio-pci", "vfio"}) {
    if (auto path = find_module(modules, module)) {
      found.modules.push_back(std::move(*path));
    }
  }
  return found;
}

void kernel_types::end::operator()(btf* one) const noexcept {
  btf__free(one);
}

outcome<kernel_types::part> kernel_types::read(const std::string& path, bool packed, btf* base) {
  unique_fd content;
  std::string readable = path;
  if (packed) {
    auto unpacked = unpack_kernel_file(path);
    if (!unpacked) {
      return std::unexpected{unpacked.error()};
    }
    content = std::move(*unpacked);
    readable = fmt::format("/proc/self/fd/{}", content.get());
  }
  std::unique_ptr<btf, end> types{btf__parse_split(readable.c_str(), base)};
  if (types == nullptr && errno == ENOENT) {
    return refuse(errc::not_found, path, "it has no BTF in it");
  }
  if (types == nullptr || !are_sound(types.get())) {
    return refuse(errc::protocol, path, "its BTF is not as it should be");
  }
  return part{.path = path, .types = std::move(types)};
}

outcome<kernel_types> kernel_types::load(const kernel_files& from) {
  libbpf_set_print(nullptr);  // what is wrong, our errors say
  kernel_types all;
  auto base = read(from.base, from.packed, nullptr);
  if (!base) {
    return std::unexpected{base.error()};
  }
  all.base_ = std::move(*base);
  for (const std::string& path : from.modules) {
    auto module = read(path, from.packed, all.base_.types.get());
    if (!module) {
      return std::unexpected{module.error()};
    }
    all.modules_.push_back(std::move(*module));
  }
  return all;
}

std::optional<layout> kernel_types::find(const std::string& name) const {
  const auto find_in = [&name](const part& where) -> std::optional<layout> {
    const btf* const types = where.types.get();
    const int id = btf__find_by_name_kind(types, name.c_str(), BTF_KIND_STRUCT);
    if (id < 0) {
      return std::nullopt;
    }
    const btf_type* const structure = btf__type_by_id(types, static_cast<std::uint32_t>(id));
    return layout{
        .from = where.path, .bytes = structure->size, .fields = fields_of(types, structure)};
  };
  for (const part& module : modules_) {
    if (auto found = find_in(module)) {
      return found;
    }
  }
  return find_in(base_);
}

}  // namespace runnel::doctor
