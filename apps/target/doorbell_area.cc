#include "apps/target/doorbell_area.h"

#include <sys/mman.h>

#include <utility>

namespace runnel::target {

outcome<doorbell_area> doorbell_area::create(std::size_t bar_bytes) {
  outcome<page_file> file = allocate_pages(bar_bytes, false);
  if (!file) {
    return std::unexpected{std::move(file.error())};
  }
  void* memory =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd.get(), off_t{offset});
  if (memory == MAP_FAILED) {
    return fail(os_error(), "map", "doorbells");
  }
  return doorbell_area{std::move(*file), static_cast<std::byte*>(memory)};
}

doorbell_area::doorbell_area(page_file file, std::byte* memory) noexcept
    : file_{std::move(file)}, memory_{memory} {}

doorbell_area::doorbell_area(doorbell_area&& other) noexcept
    : file_{std::move(other.file_)}, memory_{std::exchange(other.memory_, nullptr)} {}

doorbell_area& doorbell_area::operator=(doorbell_area&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(memory_, other.memory_);
  return *this;
}

doorbell_area::~doorbell_area() {
  if (memory_ != nullptr) {
    ::munmap(memory_, bytes);
  }
}

}  // namespace runnel::target
