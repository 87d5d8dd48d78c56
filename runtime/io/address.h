#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "drivers/pci/serving.h"
#include "mempool/base/error.h"

// Devices have addresses that every tool takes: `scheme:target?option=value&...`.
namespace runnel::io {

enum class scheme : std::uint8_t { vfio_user, file, ram, null, pci };

struct address {
  std::string text;  // as the user gave it; the object of every failure
  scheme kind = scheme::null;
  std::string target;       // a path, a size or a PCI address
  std::uint64_t bytes = 0;  // the target of ram and null; null has a default

  // From the query; which ones are known depends on the scheme.
  std::optional<std::uint32_t> namespace_id;  // ns=
  std::optional<std::uint32_t> queue_depth;   // queue_depth=
  std::optional<std::uint32_t> block_bytes;   // block_size=
  std::optional<pci::way> via;                // via=; none given: the best there is
};

/// The query begins at the last '?', so a path may contain others.
/// @error invalid: a usage error; the hint lists the schemes or the options that would do
[[nodiscard]] outcome<address> parse_address(std::string_view text);

/// "4096", "4k", "256M", "1g": bytes; suffixes are powers of 1024.
/// @error invalid: a usage error
[[nodiscard]] outcome<std::uint64_t> parse_size(std::string_view text);

/// Whether the user mistyped (as opposed to the machine refusing): such failures come from parsing
/// alone, and programs exit with 2 for them.
[[nodiscard]] bool is_usage_error(const failure& what) noexcept;

}  // namespace runnel::io
