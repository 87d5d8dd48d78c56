#include "mempool/base/check.h"

#include <cstdio>
#include <cstdlib>

namespace runnel {

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "runnel: CHECK failed at %s:%d: %s\n", file, line, condition);
  std::abort();
}

}  // namespace runnel
