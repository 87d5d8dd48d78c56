#include "bench/need.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace runnel::bench {

void give_up(const failure& what) {
  fmt::print(stderr, "{}: {}\n", program_invocation_short_name, what.message());
  std::exit(1);  // NOLINT(concurrency-mt-unsafe): benches are of one thread
}

}  // namespace runnel::bench
