#include "runtime/frame_slab.h"

#include <new>

#include "mempool/base/check.h"
#include "mempool/base/poison.h"
#include "runtime/promise.h"
#include "runtime/reactor.h"

namespace runnel {

frame_slab::frame_slab(std::size_t arena_bytes)
    : arena_{std::make_unique<std::byte[]>(arena_bytes)},
      unused_{arena_.get()},
      arena_end_{arena_.get() + arena_bytes} {}

frame_slab::~frame_slab() {
  CHECK(frames_in_use_ == 0);
  unpoison({arena_.get(), arena_end_});
}

frame_slab::header* frame_slab::take(std::size_t size_class) noexcept {
  const std::size_t whole = size_class * class_bytes;
  if (free_frame* const warm = free_[size_class]) {
    unpoison({reinterpret_cast<std::byte*>(warm), whole});
    free_[size_class] = warm->next;
    return reinterpret_cast<header*>(warm);
  }
  if (static_cast<std::size_t>(arena_end_ - unused_) < whole) {
    return nullptr;
  }
  return reinterpret_cast<header*>(std::exchange(unused_, unused_ + whole));
}

void* frame_slab::allocate(frame_slab* slab, std::size_t bytes) {
  const std::size_t size_class = (bytes + sizeof(header) + class_bytes - 1) / class_bytes;
  header* front = nullptr;
  if (slab != nullptr) {
    front = size_class < slab->free_.size() ? slab->take(size_class) : nullptr;
    if (front != nullptr) {
      ++slab->frames_in_use_;
    } else {
      ++slab->heap_frames_;
      slab = nullptr;
    }
  }
  if (front == nullptr) {
    front = static_cast<header*>(::operator new(size_class * class_bytes));
  }
  *front = header{slab, size_class};
  return front + 1;
}

void frame_slab::release(void* frame) noexcept {
  header* const front = static_cast<header*>(frame) - 1;
  frame_slab* const slab = front->slab;
  if (slab == nullptr) {
    ::operator delete(front);
    return;
  }
  const std::size_t size_class = front->size_class;
  auto* const freed = reinterpret_cast<free_frame*>(front);
  freed->next = std::exchange(slab->free_[size_class], freed);
  --slab->frames_in_use_;
  poison({reinterpret_cast<std::byte*>(front + 1), size_class * class_bytes - sizeof(header)});
}

void* promise_base::operator new(std::size_t bytes) {
  reactor* const core = reactor::current();
  return frame_slab::allocate(core != nullptr ? &core->frames_ : nullptr, bytes);
}

void promise_base::operator delete(void* frame) noexcept {
  frame_slab::release(frame);
}

}  // namespace runnel
