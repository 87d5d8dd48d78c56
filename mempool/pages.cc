#include "mempool/pages.h"

extern "C" {  // the header does not say so itself
#include <hugetlbfs.h>
}

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <fstream>
#include <optional>
#include <string>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/units.h"

namespace runnel {
namespace {

struct page_choice {
  page_kind kind;
  std::size_t page_bytes;
  unsigned memfd_flags;
};

constexpr page_choice huge_pages{
    .kind = page_kind::huge, .page_bytes = huge_bytes, .memfd_flags = MFD_HUGETLB | MFD_HUGE_2MB};

page_choice normal_pages() noexcept {
  return {.kind = page_kind::normal,
          .page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE)),
          .memfd_flags = 0};
}

/// The unsigned number after `label` in a text file of the kernel; an empty label: the first one.
std::optional<std::uint64_t> read_number(const char* path, const std::string& label) {
  std::ifstream file{path};
  std::string word;
  while (!label.empty() && word != label) {
    if (!(file >> word)) {
      return std::nullopt;
    }
  }
  std::uint64_t number = 0;
  return file >> number ? std::optional{number} : std::nullopt;
}

/// Reserves all pages; a signal may cut it short, then the kernel undoes what it did.
bool reserve(int fd, std::size_t bytes) noexcept {
  int failed = 0;
  do {
    failed = fallocate(fd, 0, 0, static_cast<off_t>(bytes));
  } while (failed != 0 && errno == EINTR);
  return failed == 0;
}

/// @error os
result<page_file> create_file(std::size_t bytes, const page_choice& choice) noexcept {
  const unsigned flags = MFD_CLOEXEC | choice.memfd_flags;
  bool sealable = true;
  unique_fd fd{memfd_create("runnel", flags | MFD_ALLOW_SEALING)};
  if (!fd && errno == EINVAL) {  // huge pages cannot be sealed before Linux 4.16
    sealable = false;
    fd.reset(memfd_create("runnel", flags));
  }
  if (!fd || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0 || !reserve(fd.get(), bytes)) {
    return std::unexpected{os_error()};
  }
  if (sealable && fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return std::unexpected{os_error()};
  }
  return page_file{
      .fd = std::move(fd), .bytes = bytes, .page_bytes = choice.page_bytes, .kind = choice.kind};
}

std::string in_mib(std::uint64_t bytes) {
  return std::to_string(bytes / mib) + " MiB";
}

}  // namespace

std::size_t huge_page_bytes() noexcept {
  std::array<long, 8> sizes{};
  const int count = gethugepagesizes(sizes.data(), static_cast<int>(sizes.size()));
  const auto end = sizes.begin() + std::max(count, 0);
  return std::find(sizes.begin(), end, static_cast<long>(huge_bytes)) != end ? huge_bytes : 0;
}

std::size_t huge_pages_free() noexcept {
  // A page that somebody reserved and has not touched yet counts as free in sysfs.
  const std::string folder = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
  const auto unused = read_number((folder + "free_hugepages").c_str(), "").value_or(0);
  const auto reserved = read_number((folder + "resv_hugepages").c_str(), "").value_or(0);
  return unused > reserved ? unused - reserved : 0;
}

std::uint64_t available_memory_bytes() {
  const auto available = read_number("/proc/meminfo", "MemAvailable:");
  return available ? *available * kib : ~std::uint64_t{0};
}

std::unexpected<failure> memory_shortage(error why, std::size_t bytes) {
  return fail(why, "allocate", in_mib(bytes) + " of memory",
              in_mib(available_memory_bytes()) +
                  " are available (MemAvailable in /proc/meminfo, and memory.max of the control "
                  "group); ask for less");
}

outcome<page_file> allocate_pages(std::size_t bytes, bool huge) {
  CHECK(bytes > 0);
  if (huge && huge_page_bytes() != 0 && bytes <= huge_pages_free() * huge_bytes) {
    auto pages = create_file(align_up(bytes, huge_bytes), huge_pages);
    if (pages) {
      return std::move(*pages);
    }
    // Somebody was faster, or a control group limits huge pages: normal pages serve as well.
  }
  if (bytes > available_memory_bytes()) {  // the kernel would try, and kill somebody on the way
    return memory_shortage({errc::no_memory}, bytes);
  }
  const page_choice normal = normal_pages();
  auto pages = create_file(align_up(bytes, normal.page_bytes), normal);
  if (!pages) {
    return memory_shortage(pages.error(), bytes);
  }
  return std::move(*pages);
}

}  // namespace runnel
