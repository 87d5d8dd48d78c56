#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "apps/doctor/checks.h"
#include "mempool/base/units.h"
#include "runtime/engine.h"

namespace runnel::doctor {
namespace {

constexpr std::string_view pages_folder = "/sys/kernel/mm/hugepages";

/// Memory that devices may touch, of a program that asks for no more.
std::uint64_t wanted_bytes() {
  return engine_options{}.window_bytes;
}

template <class T>
std::optional<T> parse(std::string_view text) {
  T value{};
  const auto [stop, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem == std::errc{} && stop == text.data() + text.size() ? std::optional{value}
                                                                     : std::nullopt;
}

/// The pages of one size that the kernel keeps.
struct page_pool {
  std::string count_path;  // of the file that says how many there are to be
  std::uint64_t page_bytes = 0;
  std::uint64_t count = 0;
  std::uint64_t unused = 0;  // and promised to nobody
};

std::vector<page_pool> read_pools(const pci::file_tree& files) {
  constexpr std::string_view before = "hugepages-";
  constexpr std::string_view after = "kB";
  std::vector<page_pool> pools;
  for (const std::string& name : files.names(pages_folder)) {
    if (!name.starts_with(before) || !name.ends_with(after)) {
      continue;
    }
    const std::string folder = fmt::format("{}/{}/", pages_folder, name);
    const auto read = [&files, &folder](const char* file) {
      return parse<std::uint64_t>(files.text(folder + file).value_or("")).value_or(0);
    };
    const auto page_kib = parse<std::uint64_t>(
        std::string_view{name}.substr(before.size(), name.size() - before.size() - after.size()));
    const std::uint64_t free = read("free_hugepages");
    pools.push_back({.count_path = folder + "nr_hugepages",
                     .page_bytes = page_kib.value_or(0) * kib,
                     .count = read("nr_hugepages"),
                     .unused = free - std::min(free, read("resv_hugepages"))});
  }
  std::erase_if(pools, [](const page_pool& each) { return each.page_bytes == 0; });
  std::ranges::sort(pools, {}, &page_pool::page_bytes);
  return pools;
}

std::uint64_t pages_for(std::uint64_t bytes, std::uint64_t page_bytes) {
  return (bytes + page_bytes - 1) / page_bytes;
}

std::string size_name(std::uint64_t bytes) {
  return bytes >= gib ? fmt::format("{} GiB", bytes / gib) : fmt::format("{} MiB", bytes / mib);
}

}  // namespace

check check_hugepages(const machine& here) {
  constexpr std::string_view id = "hugepages";
  const std::vector<page_pool> pools = read_pools(here.files);
  if (pools.empty()) {
    return doubtful(id, "the kernel has no huge pages",
                    "a kernel that is built with CONFIG_HUGETLBFS; normal pages work, more slowly");
  }
  std::string found;
  for (const page_pool& each : pools) {
    found += fmt::format("{}{} of {} pages of {} are free", found.empty() ? "" : ", ", each.unused,
                         each.count, size_name(each.page_bytes));
  }
  if (std::ranges::any_of(pools, [](const page_pool& each) {
        return each.unused >= pages_for(wanted_bytes(), each.page_bytes);
      })) {
    return good(id, std::move(found));
  }
  const page_pool& smallest = pools.front();
  const std::uint64_t wanted =
      smallest.count - smallest.unused + pages_for(wanted_bytes(), smallest.page_bytes);
  return doubtful(
      id, found + "; normal pages work, more slowly",
      as_root_write(here, std::to_string(wanted), smallest.count_path) +
          fmt::format(", or, when memory is in pieces by now, boot with hugepages={}", wanted));
}

check check_memlock(const machine& here) {
  constexpr std::string_view id = "memlock";
  constexpr std::uint64_t unlimited = ~std::uint64_t{0};
  const std::uint64_t limit = here.memlock_bytes;
  if (limit >= wanted_bytes()) {
    return good(id, limit == unlimited ? "any amount of memory may be locked"
                                       : fmt::format("{} KiB may be locked", limit / kib));
  }
  return bad(id,
             fmt::format("{} KiB may be locked, and so reached by a device: less than the {} KiB "
                         "that a program of ours has",
                         limit / kib, wanted_bytes() / kib),
             here.memlock_bytes_max >= wanted_bytes()
                 ? fmt::format("`ulimit -S -l {}`", wanted_bytes() / kib)
                 : as_root(here, "prlimit --pid $$ --memlock=unlimited") +
                       " for this shell; for logins, the line `* - memlock unlimited` in "
                       "/etc/security/limits.conf; for a service, LimitMEMLOCK=infinity");
}

}  // namespace runnel::doctor
