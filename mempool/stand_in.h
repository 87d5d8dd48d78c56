#pragma once

#include <cstddef>
#include <span>

#include "mempool/base/error.h"

namespace runnel {

/// Memory of this process, full of `filler`, takes the place of whatever is mapped at `pages`, in
/// one step: who touches them meanwhile finds the one or the other.
///
/// @pre     whole pages
/// @error   os: what was there stays, as where only a part of a huge page is to go
/// @context any thread, also in a signal handler; no locks, no allocation
[[nodiscard]] result<> put_stand_in(std::span<std::byte> pages, std::byte filler) noexcept;

}  // namespace runnel
