#pragma once

#include <utility>

#include "mempool/base/error.h"

// What keeps a bench from measuring ends it: there is nothing to tell then.
namespace runnel::bench {

/// Tells on standard error what went wrong, and exits.
[[noreturn]] void give_up(const failure& what);

/// What is in an outcome.
template <class T>
[[nodiscard]] T need(outcome<T> made) {
  if (!made) {
    give_up(made.error());
  }
  return std::move(*made);
}

}  // namespace runnel::bench
