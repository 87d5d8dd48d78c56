#include "drivers/vfio_user/address_reserve.h"

#include <sys/mman.h>

#include <cerrno>
#include <utility>

#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/base/checked.h"

namespace runnel::vfio_user {
namespace {

constexpr int reserve_flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

int protection(access permissions) noexcept {
  return (allows(permissions, access::read) ? PROT_READ : PROT_NONE) |
         (allows(permissions, access::write) ? PROT_WRITE : PROT_NONE);
}

}  // namespace

result<address_reserve> address_reserve::create() noexcept {
  // One alignment more than wanted, then the ragged ends are given back.
  constexpr std::uint64_t generous = bytes + alignment;
  void* const got = ::mmap(nullptr, generous, PROT_NONE, reserve_flags, -1, 0);
  if (got == MAP_FAILED) {
    return std::unexpected{os_error()};
  }
  auto* const start = static_cast<std::byte*>(got);
  const auto number = reinterpret_cast<std::uintptr_t>(start);
  const std::uint64_t before = align_up(number, alignment) - number;
  const std::uint64_t after = alignment - before;
  if (before != 0) {
    ::munmap(start, before);
  }
  if (after != 0) {
    ::munmap(start + before + bytes, after);
  }
  return address_reserve{start + before};
}

address_reserve::address_reserve(address_reserve&& other) noexcept
    : base_{std::exchange(other.base_, nullptr)} {}

address_reserve& address_reserve::operator=(address_reserve&& other) noexcept {
  if (this != &other) {
    give_back();
    base_ = std::exchange(other.base_, nullptr);
  }
  return *this;
}

address_reserve::~address_reserve() {
  give_back();
}

void address_reserve::give_back() noexcept {
  if (base_ != nullptr) {
    ::munmap(base_, bytes);
  }
}

result<std::byte*> address_reserve::place(const placement& what) noexcept {
  CHECK(range_within(what.offset, what.length, bytes));
  std::byte* const wanted = base_ + what.offset;
  void* const got = ::mmap(wanted, what.length, protection(what.permissions),
                           MAP_SHARED | MAP_FIXED, what.fd, static_cast<off_t>(what.fd_offset));
  if (got == MAP_FAILED) {
    return std::unexpected{os_error()};
  }
  return wanted;
}

void address_reserve::clear(std::byte* first, std::uint64_t length) noexcept {
  CHECK(range_within(static_cast<std::uint64_t>(first - base_), length, bytes));
  // Not munmap: somebody else's mapping could land in the gap. It fails only when the process has
  // too many mappings to cut one more; then the file stays visible here until the place is used
  // again or the reserve goes, and nobody resolves to it.
  void* const emptied = ::mmap(first, length, PROT_NONE, reserve_flags | MAP_FIXED, -1, 0);
  CHECK(emptied == first || errno == ENOMEM);
}

}  // namespace runnel::vfio_user
