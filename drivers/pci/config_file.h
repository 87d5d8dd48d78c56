#pragma once

#include <string>

#include "drivers/pci/config_space.h"
#include "mempool/base/unique_fd.h"

namespace runnel::pci {

/// The `config` file of sysfs. Who is not root sees the first 64 bytes only.
class config_file final : public config_reader {
 public:
  /// @return a reader whose reads fail if the file cannot be opened
  explicit config_file(const std::string& path) noexcept;
  [[nodiscard]] result<std::uint32_t> read(std::uint16_t offset,
                                           std::uint16_t bytes) noexcept override;

 private:
  unique_fd fd_;
};

}  // namespace runnel::pci
