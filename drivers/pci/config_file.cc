#include "drivers/pci/config_file.h"

#include <fcntl.h>
#include <unistd.h>

namespace runnel::pci {

config_file::config_file(const std::string& path) noexcept
    : fd_{open(path.c_str(), O_RDONLY | O_CLOEXEC)} {}

result<std::uint32_t> config_file::read(std::uint16_t offset, std::uint16_t bytes) noexcept {
  std::uint32_t value = 0;  // little-endian, as the space is
  const ssize_t got = pread(fd_.get(), &value, bytes, offset);
  if (got < 0) {
    return std::unexpected{os_error()};
  }
  if (got != bytes) {
    return fail(errc::unsupported);
  }
  return value;
}

}  // namespace runnel::pci
