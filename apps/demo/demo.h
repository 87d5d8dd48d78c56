#pragma once

#include <string>

#include "mempool/base/error.h"

namespace runnel::demo {

struct options {
  std::string program;  // path of `runnel`, which serves the disks in processes of its own
};

/// Shows the whole way on real data, without hardware and without root: serves an ext4 image from
/// one process, drives it from this one with the NVMe driver, and measures. Tells on stdout what it
/// does and finds.
/// @error the step that failed; everything it made is removed either way
/// @context control thread; takes about ten seconds
[[nodiscard]] outcome<> run(const options& asked);

}  // namespace runnel::demo
