#pragma once

#include <string>
#include <vector>

#include "drivers/block.h"
#include "drivers/nvme/identify.h"
#include "mempool/base/error.h"

namespace runnel::identify {

struct found_namespace {
  std::uint32_t nsid = 0;
  nvme::identify_namespace data{};
};

/// What a device says of itself. An NVMe controller's own words, or for any other block device
/// just its geometry.
struct findings {
  bool is_nvme = false;
  block_info geometry;
  nvme::identify_controller controller{};
  std::vector<found_namespace> namespaces;  // the active ones
};

/// @error what opening the device says
/// @context control thread; brings the device up and down again, once per namespace
[[nodiscard]] outcome<findings> ask(const std::string& address);

/// One JSON object; keys as nvme-cli names them where it has the same.
[[nodiscard]] std::string to_json(const findings& what);
[[nodiscard]] std::string to_text(const findings& what);

}  // namespace runnel::identify
