#include "apps/target/doorbell_page.h"

#include <sys/mman.h>

#include <utility>

namespace runnel::target {

outcome<doorbell_page> doorbell_page::create(std::size_t bar_bytes) {
  outcome<page_file> file = allocate_pages(bar_bytes, false);
  if (!file) {
    return std::unexpected{std::move(file.error())};
  }
  void* page =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd.get(), off_t{offset});
  if (page == MAP_FAILED) {
    return fail(os_error(), "map", "doorbells");
  }
  return doorbell_page{std::move(*file), static_cast<std::byte*>(page)};
}

doorbell_page::doorbell_page(page_file file, std::byte* page) noexcept
    : file_{std::move(file)}, page_{page} {}

doorbell_page::doorbell_page(doorbell_page&& other) noexcept
    : file_{std::move(other.file_)}, page_{std::exchange(other.page_, nullptr)} {}

doorbell_page& doorbell_page::operator=(doorbell_page&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(page_, other.page_);
  return *this;
}

doorbell_page::~doorbell_page() {
  if (page_ != nullptr) {
    ::munmap(page_, bytes);
  }
}

}  // namespace runnel::target
