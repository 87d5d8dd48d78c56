#pragma once

#include <array>
#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

#include "mempool/base/bits.h"
#include "mempool/ring/spsc_ring.h"
#include "runtime/intrusive_list.h"
#include "runtime/promise.h"
#include "runtime/reactor.h"

// How the cores of one engine talk: a lane for each ordered pair, made when it is first used, and a
// bitmap on the receiving side, so that lanes on which nothing comes cost nothing.
namespace runnel {

class gate;
class mailbox;
struct send_tag;

/// What one core has another do: a small function, with what it captured, as long as a cache line.
/// Lanes align it; by itself it is not over-aligned, for g++ 12 does not align coroutine frames.
struct message {
  static constexpr std::size_t payload_bytes = 56;

  message() noexcept = default;
  template <class F>
    requires(std::is_trivially_copyable_v<F> && std::is_nothrow_invocable_v<F&> &&
             sizeof(F) <= payload_bytes)
  explicit message(const F& f) noexcept
      : deliver{[](std::byte* at) noexcept { (*std::launder(reinterpret_cast<F*>(at)))(); }} {
    std::memcpy(payload.data(), &f, sizeof f);
  }

  void (*deliver)(std::byte* payload) noexcept;
  alignas(8) std::array<std::byte, payload_bytes> payload;
};
static_assert(sizeof(message) == cache_line_bytes);

/// Waits for room in a lane, however long: the other core always gets to its messages. Made by
/// `mailbox::send`, awaited at once.
class [[nodiscard]] send_wait : private list_hook<send_tag> {
 public:
  send_wait(mailbox& from, mailbox& to, const message& what) noexcept
      : from_{from}, to_{to}, what_{what} {}

  [[nodiscard]] bool await_ready() const noexcept;
  template <std::derived_from<promise_base> Promise>
  void await_suspend(std::coroutine_handle<Promise> task) noexcept {
    wait_for_room(task.promise());
  }
  void await_resume() const noexcept {}

 private:
  friend class mailbox;
  template <class T, class Tag>
  friend class intrusive_list;
  void wait_for_room(promise_base& task) noexcept;

  mailbox& from_;
  mailbox& to_;
  message what_;
  promise_base* task_ = nullptr;
};

/// One core's end of all its lanes. Messages of one core to another arrive in their order; they are
/// published together at the end of the sender's turn.
/// @context its core
class mailbox {
 public:
  static constexpr std::size_t cores_max = 256;
  static constexpr std::uint32_t lane_capacity = 256;     // messages
  static constexpr std::uint32_t messages_per_turn = 64;  // taken from one lane

  /// @param visitors  owns the tasks that other cores start here
  /// @param index     of this core among the `count` of its engine
  /// @context before the core runs
  mailbox(reactor& core, gate& visitors, std::size_t index, std::size_t count);
  mailbox(const mailbox&) = delete;
  mailbox& operator=(const mailbox&) = delete;
  ~mailbox();  // nothing waits

  /// False when the lane is full, or others wait for room in it.
  [[nodiscard]] bool try_send(mailbox& to, const message& what) noexcept;
  [[nodiscard]] send_wait send(mailbox& to, const message& what) noexcept {
    return send_wait{*this, to, what};
  }

  [[nodiscard]] reactor& core() noexcept { return core_; }
  [[nodiscard]] gate& visitors() noexcept { return visitors_; }

 private:
  friend class send_wait;

  struct lane {
    spsc_ring<message> ring{lane_capacity};
    spsc_ring<message>::producer in = ring.take_producer();
    spsc_ring<message>::consumer out = ring.take_consumer();
  };

  /// The sending end of one lane.
  struct outgoing {
    outgoing(mailbox& sender, mailbox& receiver) noexcept;
    [[nodiscard]] bool stage(const message& what) noexcept;
    void publish() noexcept;

    lane road;
    mailbox& from;
    mailbox& to;
    std::uint32_t staged = 0;  // written and not yet published
    publisher at_end_of_turn;
    intrusive_list<send_wait, send_tag> waiting;
  };

  [[nodiscard]] outgoing& way_to(mailbox& to);
  std::uint32_t poll() noexcept;
  std::uint32_t receive(std::size_t from) noexcept;
  std::uint32_t retry() noexcept;

  using bitmap = std::array<std::atomic<std::uint64_t>, cores_max / 64>;

  reactor& core_;
  gate& visitors_;
  std::size_t index_;
  std::size_t waiting_count_ = 0;                    // tasks that wait for room
  std::vector<std::unique_ptr<outgoing>> outgoing_;  // by receiver
  std::unique_ptr<std::atomic<lane*>[]> incoming_;   // by sender
  alignas(cache_line_bytes) bitmap dirty_{};         // senders that have published
};

}  // namespace runnel
