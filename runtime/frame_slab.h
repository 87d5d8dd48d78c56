#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace runnel {

/// Memory for one core's coroutine frames, taken from the heap once, at start. Frames are kept in
/// size classes of 64 bytes; a freed one is the next to be used, while it is warm. When the arena
/// is spent or a frame is larger than any class, the heap helps out and the case is counted.
///
/// Every frame carries its slab's address in front of it, so it goes home whoever frees it.
/// @context one core; a frame never changes core
class frame_slab {
 public:
  static constexpr std::size_t class_bytes = 64;
  static constexpr std::size_t frame_bytes_max = 4096;  // with the 16-byte header

  explicit frame_slab(std::size_t arena_bytes);
  frame_slab(const frame_slab&) = delete;
  frame_slab& operator=(const frame_slab&) = delete;
  ~frame_slab();  // every frame must be home

  /// @param slab  where to take it from; null: the heap (no reactor on this thread)
  [[nodiscard]] static void* allocate(frame_slab* slab, std::size_t bytes);
  static void release(void* frame) noexcept;

  /// Calls `visit(void* frame)` for each frame here that is in use; those from the heap are unseen.
  template <class Visit>
  void for_each(Visit&& visit) const;

  [[nodiscard]] std::size_t frames_in_use() const noexcept { return frames_in_use_; }
  /// Frames that had to come from the heap since the start.
  [[nodiscard]] std::uint64_t heap_frames() const noexcept { return heap_frames_; }

 private:
  struct header {
    frame_slab* slab;  // null: a heap frame
    std::size_t size_class;
  };
  struct free_frame {
    free_frame* next;
  };

  [[nodiscard]] header* take(std::size_t size_class) noexcept;

  // What was taken from the arena once keeps its size class when it is free, and a link to another
  // free one is no slab's address.
  std::array<free_frame*, frame_bytes_max / class_bytes + 1> free_{};
  std::unique_ptr<std::byte[]> arena_;
  std::byte* unused_;
  std::byte* arena_end_;
  std::size_t frames_in_use_ = 0;
  std::uint64_t heap_frames_ = 0;
};

template <class Visit>
void frame_slab::for_each(Visit&& visit) const {
  for (std::byte* at = arena_.get(); at != unused_;) {
    const header front = *reinterpret_cast<const header*>(at);
    if (front.slab == this) {
      visit(static_cast<void*>(at + sizeof front));
    }
    at += front.size_class * class_bytes;
  }
}

}  // namespace runnel
