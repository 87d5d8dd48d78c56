#include "mempool/pages.h"

extern "C" {  // the header does not say so itself
#include <hugetlbfs.h>
}

#include <fcntl.h>
#include <linux/memfd.h>
#include <linux/mempolicy.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

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

constexpr std::size_t never_short = mib;  // of memory: asking the kernel costs more than it saves

constexpr page_choice giant_pages{
    .kind = page_kind::huge, .page_bytes = giant_bytes, .memfd_flags = MFD_HUGETLB | MFD_HUGE_1GB};
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

/// While it lives, what the calling thread allocates comes from one node as long as that has any;
/// but where whoever started us has said where from (`numactl`), that holds.
class node_preference {
 public:
  explicit node_preference(numa_node node) noexcept {
    if (syscall(SYS_get_mempolicy, &former_mode_, former_.data(), bits, nullptr, 0UL) != 0 ||
        raw(node) >= bits) {
      return;
    }
    if (former_mode_ != MPOL_DEFAULT && former_mode_ != MPOL_LOCAL) {
      holds_ = true;
      return;
    }
    node_mask wanted{};
    wanted[raw(node) / word_bits] = 1UL << raw(node) % word_bits;
    holds_ = is_set_ = set(MPOL_PREFERRED, wanted);
  }
  node_preference(const node_preference&) = delete;
  node_preference& operator=(const node_preference&) = delete;
  ~node_preference() {
    if (is_set_) {
      static_cast<void>(set(former_mode_, former_));
    }
  }
  [[nodiscard]] bool holds() const noexcept { return holds_; }

 private:
  static constexpr unsigned long word_bits = 64;
  static constexpr unsigned long bits = 1024;  // what kernels are built for, at most
  using node_mask = std::array<unsigned long, bits / word_bits>;

  static bool set(int mode, const node_mask& nodes) noexcept {
    return syscall(SYS_set_mempolicy, mode, nodes.data(), bits) == 0;
  }

  int former_mode_ = MPOL_DEFAULT;
  node_mask former_{};
  bool holds_ = false;
  bool is_set_ = false;
};

/// Reserves pages; a signal may cut it short, then the kernel undoes what it did.
bool reserve(int fd, std::size_t offset, std::size_t bytes) noexcept {
  int failed = 0;
  do {
    failed = fallocate(fd, 0, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  } while (failed != 0 && errno == EINTR);
  return failed == 0;
}

bool reserve_shares(page_file& pages, std::span<const numa_node> nodes) noexcept {
  const int fd = pages.fd.get();
  if (nodes.empty()) {
    return reserve(fd, 0, pages.bytes);
  }
  std::size_t offset = 0;
  for (const numa_node node : nodes) {
    const node_preference here{node};
    pages.placed &= here.holds();
    const std::size_t bytes = std::min(pages.share_bytes, pages.bytes - offset);
    if (bytes != 0 && !reserve(fd, offset, bytes)) {
      return false;
    }
    offset += bytes;
  }
  return true;
}

/// @error os
result<page_file> create_file(std::size_t bytes, const page_choice& choice,
                              std::span<const numa_node> nodes) noexcept {
  const unsigned flags = MFD_CLOEXEC | choice.memfd_flags;
  bool sealable = true;
  unique_fd fd{memfd_create("runnel", flags | MFD_ALLOW_SEALING)};
  if (!fd && errno == EINVAL) {  // huge pages cannot be sealed before Linux 4.16
    sealable = false;
    fd.reset(memfd_create("runnel", flags));
  }
  if (!fd || ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return std::unexpected{os_error()};
  }
  const std::size_t shares = std::max<std::size_t>(nodes.size(), 1);
  page_file made{.fd = std::move(fd),
                 .bytes = bytes,
                 .page_bytes = choice.page_bytes,
                 .kind = choice.kind,
                 .share_bytes = align_up(bytes / shares, choice.page_bytes)};
  if (!reserve_shares(made, nodes)) {
    return std::unexpected{os_error()};
  }
  constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  if (sealable && fcntl(made.fd.get(), F_ADD_SEALS, seals) != 0) {
    return std::unexpected{os_error()};
  }
  return made;
}

bool enough_are_free(const page_choice& huge, std::size_t bytes) noexcept {
  return has_huge_pages(huge.page_bytes) &&
         bytes <= huge_pages_free(huge.page_bytes) * huge.page_bytes;
}

/// Whether each node gets a page. @param nodes  equal ones are next to each other
bool enough_for_each(const page_choice& huge, std::size_t bytes,
                     std::span<const numa_node> nodes) noexcept {
  std::size_t pages = nodes.empty() ? 0 : 1;
  for (std::size_t i = 1; i < nodes.size(); ++i) {
    pages += nodes[i] != nodes[i - 1] ? 1U : 0U;
  }
  return align_up(bytes, huge.page_bytes) >= pages * huge.page_bytes;
}

/// Those that waste less first.
std::array<page_choice, 2> huge_choices(std::size_t bytes) noexcept {
  const bool giant_first =
      bytes % giant_bytes == 0 || giant_bytes - bytes % giant_bytes < huge_bytes;
  return giant_first ? std::array{giant_pages, huge_pages} : std::array{huge_pages, giant_pages};
}

std::string in_mib(std::uint64_t bytes) {
  return std::to_string(bytes / mib) + " MiB";
}

}  // namespace

bool has_huge_pages(std::size_t page_bytes) noexcept {
  std::array<long, 8> sizes{};
  const int count = gethugepagesizes(sizes.data(), static_cast<int>(sizes.size()));
  const auto end = sizes.begin() + std::max(count, 0);
  return std::find(sizes.begin(), end, static_cast<long>(page_bytes)) != end;
}

std::size_t huge_pages_free(std::size_t page_bytes) noexcept {
  // A page that somebody reserved and has not touched yet counts as free in sysfs.
  const std::string folder =
      "/sys/kernel/mm/hugepages/hugepages-" + std::to_string(page_bytes / kib) + "kB/";
  const auto unused = read_number((folder + "free_hugepages").c_str(), "").value_or(0);
  const auto reserved = read_number((folder + "resv_hugepages").c_str(), "").value_or(0);
  return unused > reserved ? unused - reserved : 0;
}

std::optional<numa_node> node_of(const std::byte* memory) noexcept {
  int node = 0;
  constexpr unsigned long of_address = MPOL_F_NODE | MPOL_F_ADDR;
  const bool told = syscall(SYS_get_mempolicy, &node, nullptr, 0UL, memory, of_address) == 0;
  return told ? std::optional{numa_node{static_cast<std::uint32_t>(node)}} : std::nullopt;
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

outcome<page_file> allocate_pages(std::size_t bytes, bool huge, std::span<const numa_node> nodes) {
  CHECK(bytes > 0);
  for (const page_choice& choice : huge_choices(bytes)) {
    if (!huge || !enough_are_free(choice, bytes) || !enough_for_each(choice, bytes, nodes)) {
      continue;
    }
    auto pages = create_file(align_up(bytes, choice.page_bytes), choice, nodes);
    if (pages) {
      return std::move(*pages);
    }
    // Somebody was faster, or a control group limits huge pages: smaller pages serve as well.
  }
  if (bytes > never_short && bytes > available_memory_bytes()) {
    return memory_shortage({errc::no_memory}, bytes);  // the kernel would try, and kill somebody
  }
  const page_choice normal = normal_pages();
  auto pages = create_file(align_up(bytes, normal.page_bytes), normal, nodes);
  if (pages) {
    return std::move(*pages);
  }
  return bytes > never_short ? memory_shortage(pages.error(), bytes)
                             : fail(pages.error(), "allocate", std::to_string(bytes) + " bytes");
}

}  // namespace runnel
