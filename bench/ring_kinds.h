#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>

#include "bench/transfer.h"
#include "mempool/base/bits.h"
#include "mempool/base/check.h"
#include "mempool/ring/mpmc_ring.h"
#include "mempool/ring/spsc_ring.h"

#if __has_include(<boost/lockfree/spsc_queue.hpp>)
#define RUNNEL_BENCH_BOOST
#include <boost/lockfree/spsc_queue.hpp>
#endif
#if __has_include(<readerwriterqueue/readerwriterqueue.h>)
#define RUNNEL_BENCH_READERWRITERQUEUE
#include <readerwriterqueue/readerwriterqueue.h>
#endif
#if __has_include(<tbb/concurrent_queue.h>)
#define RUNNEL_BENCH_TBB
#include <tbb/concurrent_queue.h>
#endif
#if __has_include(<rte_ring.h>)
#define RUNNEL_BENCH_DPDK
#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <rte_ring_peek_zc.h>
#endif

// Our rings and those of the libraries that are here, with one face for `cycles_per_entry`.
namespace runnel::bench {

inline constexpr std::uint32_t ring_entries = 1024;

/// Batches that are made aside and copied in, copied out and then read; or neither made nor read,
/// as in the rings' own benches.
template <class Ring, std::size_t Batch, bool Touched = true>
class by_copying {
 public:
  using entry_type = typename Ring::entry_type;

  bool send(source<entry_type>& from) noexcept {
    if (unsent_.empty()) {
      if constexpr (Touched) {
        from.fill(outgoing_);
      }
      unsent_ = outgoing_;
    }
    const std::size_t sent = ring_.push(unsent_);
    unsent_ = unsent_.subspan(sent);
    return sent != 0;
  }

  bool receive(sink<entry_type>& into) noexcept {
    const std::size_t count = ring_.pop(incoming_);
    if constexpr (Touched) {
      into.take(std::span{incoming_}.first(count));
    } else {
      into.pass(count);
    }
    return count != 0;
  }

 private:
  Ring ring_;
  alignas(2 * cache_line_bytes) std::array<entry_type, Batch> outgoing_{};
  std::span<const entry_type> unsent_;
  alignas(2 * cache_line_bytes) std::array<entry_type, Batch> incoming_{};
};

template <class Entry>
class our_spsc {
 public:
  using entry_type = Entry;
  std::size_t push(std::span<const Entry> values) noexcept { return in_.push(values); }
  std::size_t pop(std::span<Entry> out) noexcept { return out_.pop(out); }

 private:
  spsc_ring<Entry> ring_{ring_entries};
  typename spsc_ring<Entry>::producer in_ = ring_.take_producer();
  typename spsc_ring<Entry>::consumer out_ = ring_.take_consumer();
};

template <class Entry, std::size_t Batch>
class our_spsc_in_place {
 public:
  using entry_type = Entry;
  bool send(source<Entry>& from) noexcept {
    const std::span<Entry> slots = in_.reserve(Batch);
    if (slots.empty()) {
      return false;
    }
    from.fill(slots);
    in_.commit(slots.size());
    return true;
  }
  bool receive(sink<Entry>& into) noexcept {
    const std::span<const Entry> entries = out_.peek(Batch);
    if (entries.empty()) {
      return false;
    }
    into.take(entries);
    out_.consume(entries.size());
    return true;
  }

 private:
  spsc_ring<Entry> ring_{ring_entries};
  typename spsc_ring<Entry>::producer in_ = ring_.take_producer();
  typename spsc_ring<Entry>::consumer out_ = ring_.take_consumer();
};

template <class Entry>
class our_mpmc {
 public:
  using entry_type = Entry;
  std::size_t push(std::span<const Entry> values) noexcept {
    std::size_t count = 0;
    while (count < values.size() && ring_.try_push(values[count])) {
      ++count;
    }
    return count;
  }
  std::size_t pop(std::span<Entry> out) noexcept {
    std::size_t count = 0;
    for (; count < out.size(); ++count) {
      const auto value = ring_.try_pop();
      if (!value) {
        break;
      }
      out[count] = *value;
    }
    return count;
  }

 private:
  mpmc_ring<Entry> ring_{ring_entries};
};

#if defined(RUNNEL_BENCH_BOOST)
template <class Entry>
class boost_spsc {
 public:
  using entry_type = Entry;
  std::size_t push(std::span<const Entry> values) noexcept {
    return ring_.push(values.data(), values.size());
  }
  std::size_t pop(std::span<Entry> out) noexcept { return ring_.pop(out.data(), out.size()); }

 private:
  boost::lockfree::spsc_queue<Entry, boost::lockfree::capacity<ring_entries>> ring_;
};
#endif

#if defined(RUNNEL_BENCH_READERWRITERQUEUE)
/// It takes one entry at a time.
template <class Entry>
class reader_writer_queue {
 public:
  using entry_type = Entry;
  std::size_t push(std::span<const Entry> values) noexcept {
    std::size_t count = 0;
    while (count < values.size() && ring_.try_enqueue(values[count])) {
      ++count;
    }
    return count;
  }
  std::size_t pop(std::span<Entry> out) noexcept {
    std::size_t count = 0;
    while (count < out.size() && ring_.try_dequeue(out[count])) {
      ++count;
    }
    return count;
  }

 private:
  moodycamel::ReaderWriterQueue<Entry> ring_{ring_entries};
};
#endif

#if defined(RUNNEL_BENCH_TBB)
template <class Entry>
class tbb_bounded {
 public:
  using entry_type = Entry;
  tbb_bounded() { ring_.set_capacity(ring_entries); }
  std::size_t push(std::span<const Entry> values) noexcept {
    std::size_t count = 0;
    while (count < values.size() && ring_.try_push(values[count])) {
      ++count;
    }
    return count;
  }
  std::size_t pop(std::span<Entry> out) noexcept {
    std::size_t count = 0;
    while (count < out.size() && ring_.try_pop(out[count])) {
      ++count;
    }
    return count;
  }

 private:
  tbb::concurrent_bounded_queue<Entry> ring_;
};
#endif

#if defined(RUNNEL_BENCH_DPDK)
/// The memory of an rte_ring; it needs no EAL.
class dpdk_ring {
 public:
  dpdk_ring(std::size_t entry_bytes, unsigned flags)
      : memory_{::operator new(static_cast<std::size_t>(rte_ring_get_memsize_elem(
                                   static_cast<unsigned>(entry_bytes), ring_entries)),
                               alignment)} {
    CHECK(rte_ring_init(get(), "bench", ring_entries, flags) == 0);
  }
  [[nodiscard]] rte_ring* get() const noexcept { return static_cast<rte_ring*>(memory_.get()); }

 private:
  static constexpr std::align_val_t alignment{2 * cache_line_bytes};
  struct deleter {
    void operator()(void* memory) const noexcept { ::operator delete(memory, alignment); }
  };
  std::unique_ptr<void, deleter> memory_;
};

inline constexpr unsigned spsc_flags = RING_F_SP_ENQ | RING_F_SC_DEQ;

template <class Entry>
class rte_spsc {
 public:
  using entry_type = Entry;
  std::size_t push(std::span<const Entry> values) noexcept {
    return rte_ring_sp_enqueue_bulk_elem(ring_.get(), values.data(), sizeof(Entry),
                                         static_cast<unsigned>(values.size()), nullptr);
  }
  std::size_t pop(std::span<Entry> out) noexcept {
    return rte_ring_sc_dequeue_burst_elem(ring_.get(), out.data(), sizeof(Entry),
                                          static_cast<unsigned>(out.size()), nullptr);
  }

 private:
  dpdk_ring ring_{sizeof(Entry), spsc_flags};
};

template <class Entry>
class rte_mpmc {
 public:
  using entry_type = Entry;
  std::size_t push(std::span<const Entry> values) noexcept {
    return rte_ring_mp_enqueue_bulk_elem(ring_.get(), values.data(), sizeof(Entry),
                                         static_cast<unsigned>(values.size()), nullptr);
  }
  std::size_t pop(std::span<Entry> out) noexcept {
    return rte_ring_mc_dequeue_burst_elem(ring_.get(), out.data(), sizeof(Entry),
                                          static_cast<unsigned>(out.size()), nullptr);
  }

 private:
  dpdk_ring ring_{sizeof(Entry), 0};
};

template <class Entry, std::size_t Batch>
class rte_spsc_in_place {
 public:
  using entry_type = Entry;
  bool send(source<Entry>& from) noexcept {
    rte_ring_zc_data room{};
    const unsigned count =
        rte_ring_enqueue_zc_bulk_elem_start(ring_.get(), sizeof(Entry), Batch, &room, nullptr);
    if (count == 0) {
      return false;
    }
    from.fill({static_cast<Entry*>(room.ptr1), room.n1});
    from.fill({static_cast<Entry*>(room.ptr2), count - room.n1});
    rte_ring_enqueue_zc_elem_finish(ring_.get(), count);
    return true;
  }
  bool receive(sink<Entry>& into) noexcept {
    rte_ring_zc_data there{};
    const unsigned count =
        rte_ring_dequeue_zc_burst_elem_start(ring_.get(), sizeof(Entry), Batch, &there, nullptr);
    if (count == 0) {
      return false;
    }
    into.take({static_cast<const Entry*>(there.ptr1), there.n1});
    into.take({static_cast<const Entry*>(there.ptr2), count - there.n1});
    rte_ring_dequeue_zc_elem_finish(ring_.get(), count);
    return true;
  }

 private:
  dpdk_ring ring_{sizeof(Entry), spsc_flags};
};
#else
template <class Entry>
class rte_spsc;
template <class Entry>
class rte_mpmc;
template <class Entry, std::size_t Batch>
class rte_spsc_in_place;
#endif

}  // namespace runnel::bench
