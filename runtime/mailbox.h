#pragma once

#include <array>
#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "mempool/base/bits.h"
#include "runtime/intrusive_list.h"
#include "runtime/lane.h"
#include "runtime/promise.h"
#include "runtime/reactor.h"

// How the cores of one engine talk: a lane for each ordered pair, made when it is first used, and a
// bitmap on the receiving side in which senders tell of messages in lanes that it does not watch,
// so that lanes on which nothing comes cost nothing.
namespace runnel {

class gate;
class mailbox;
struct send_tag;

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

/// One core's end of all its lanes. Messages of one core to another arrive in their order, in this
/// turn of the sender or at its end.
/// @context its core
class mailbox {
 public:
  static constexpr std::size_t cores_max = 256;
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

  /// The sending end of one lane.
  struct outgoing {
    outgoing(mailbox& sender, mailbox& receiver) noexcept;
    [[nodiscard]] bool push(const message& what) noexcept;
    void tell() noexcept;

    lane road;
    mailbox& from;
    mailbox& to;
    publisher at_end_of_turn;
    intrusive_list<send_wait, send_tag> waiting;
  };

  [[nodiscard]] outgoing& way_to(mailbox& to);
  std::uint32_t poll() noexcept;
  void watch_told(std::size_t word) noexcept;
  std::uint32_t receive(std::size_t from) noexcept;
  std::uint32_t retry() noexcept;

  template <class Word>
  using bitmap = std::array<Word, cores_max / 64>;  // by sender

  reactor& core_;
  gate& visitors_;
  std::size_t index_;
  std::size_t waiting_count_ = 0;                    // tasks that wait for room
  std::vector<std::unique_ptr<outgoing>> outgoing_;  // by receiver
  std::unique_ptr<std::atomic<lane*>[]> incoming_;   // by sender
  std::size_t words_;                                // of the bitmaps: those that are needed
  bitmap<std::uint64_t> watched_{};
  alignas(cache_line_bytes) bitmap<std::atomic<std::uint64_t>> told_{};  // written by senders
};

}  // namespace runnel
