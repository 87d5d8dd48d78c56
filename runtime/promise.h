#pragma once

#include <array>
#include <coroutine>
#include <cstddef>
#include <utility>

namespace runnel {

class gate;

/// What the runtime knows about every coroutine. It is also the coroutine's place in the ready
/// queue, so that queue has no bound and never allocates: a suspended coroutine waits for exactly
/// one thing and is queued at most once.
struct promise_base {
  std::coroutine_handle<> handle;
  promise_base* next = nullptr;    // in the ready queue
  promise_base* parent = nullptr;  // who awaits this one
  gate* owner = nullptr;           // inherited by awaited children; who may cancel it
  const char* name = "task";       // static; for reports; inherited by awaited children
  const char* waits_for = "";      // static; for reports; what it suspended for last
  promise_base* awaits = nullptr;  // valid while `waits_for` is `waits_for_child`
  bool started = false;
  bool parent_waiting = false;  // the parent is suspended: its turn comes when this one ends
  bool detached = false;        // spawned into `owner`: frees itself at its end

  // Frames come from the slab of the current reactor, see frame_slab.
  static void* operator new(std::size_t bytes);
  static void operator delete(void* frame) noexcept;
};

/// What a task waits for that awaits another; what that one waits for is the answer.
/// An array, so that it has one address: literals have one in each source.
inline constexpr auto waits_for_child = std::to_array("a task that it awaits");

/// Coroutines that can go on, first in first out. @context one core
class ready_queue {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }

  void push(promise_base& task) noexcept {
    task.next = nullptr;
    *tail_ = &task;
    tail_ = &task.next;
  }

  /// @pre not empty
  [[nodiscard]] promise_base& pop() noexcept {
    promise_base& task = *head_;
    head_ = task.next;
    if (head_ == nullptr) {
      tail_ = &head_;
    }
    return task;
  }

  /// Moves all of `other` behind what is here.
  void append(ready_queue& other) noexcept {
    if (!other.empty()) {
      *tail_ = std::exchange(other.head_, nullptr);
      tail_ = std::exchange(other.tail_, &other.head_);
    }
  }

  ready_queue() noexcept = default;
  ready_queue(const ready_queue&) = delete;
  ready_queue& operator=(const ready_queue&) = delete;
  ~ready_queue() = default;

 private:
  promise_base* head_ = nullptr;
  promise_base** tail_ = &head_;
};

}  // namespace runnel
