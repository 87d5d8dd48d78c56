// Claim: handing entries from one core to another through our rings costs no more than through the
// best ring a user could take instead, and a fifth less when they are made and read in place. All
// of them move the same entries between the same two pinned threads, in interleaved rounds.

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <string>
#include <utility>

#include "apps/floor/floor.h"
#include "bench/contest.h"
#include "bench/ring_kinds.h"
#include "bench/transfer.h"
#include "runtime/cores.h"

namespace runnel::bench {
namespace {

constexpr std::size_t batch = 32;
/// TSC cycles per entry of rte_ring in batches of 32 that nobody makes or reads, by dpdk-test on
/// the machine in the README with its cores near one another. It adds up the two sides'.
constexpr double known_spsc_near = 4.6 / 2;
constexpr double known_mpmc_near = 6.1 / 2;

constexpr const char* dpdk_package = "libdpdk-dev";
constexpr const char* boost_package = "libboost-dev";
constexpr const char* readerwriterqueue_package = "libreaderwriterqueue-dev";
constexpr const char* tbb_package = "libtbb-dev";

template <class Ring>
contestant measured(const char* name, const core_pair& cores, double known_cycles = 0) {
  return {
      .name = name,
      .cycles = [cores](double seconds) { return least_cycles_per_entry<Ring>(cores, seconds); },
      .known_cycles = known_cycles};
}

template <class Entry>
contestant boost_queue([[maybe_unused]] const core_pair& cores) {
  constexpr const char* name = "boost::lockfree::spsc_queue";
#if defined(RUNNEL_BENCH_BOOST)
  return measured<by_copying<boost_spsc<Entry>, batch>>(name, cores);
#else
  return {.name = name, .lacks = boost_package};
#endif
}

template <class Entry>
contestant moodycamel_queue([[maybe_unused]] const core_pair& cores) {
  constexpr const char* name = "moodycamel::ReaderWriterQueue";
#if defined(RUNNEL_BENCH_READERWRITERQUEUE)
  return measured<by_copying<reader_writer_queue<Entry>, batch>>(name, cores);
#else
  return {.name = name, .lacks = readerwriterqueue_package};
#endif
}

template <class Entry>
contestant tbb_queue([[maybe_unused]] const core_pair& cores) {
  constexpr const char* name = "tbb::concurrent_bounded_queue";
#if defined(RUNNEL_BENCH_TBB)
  return measured<by_copying<tbb_bounded<Entry>, batch>>(name, cores);
#else
  return {.name = name, .lacks = tbb_package};
#endif
}

#if defined(RUNNEL_BENCH_DPDK)
template <class Ring>
contestant rte(const char* name, const core_pair& cores, double known = 0) {
  return measured<Ring>(name, cores, known);
}
#else
template <class Ring>
contestant rte(const char* name, const core_pair&, double = 0) {
  return {.name = name, .lacks = dpdk_package};
}
#endif

template <std::size_t Bytes>
contest copying(const core_pair& cores) {
  using type = entry<Bytes>;
  return {.name = fmt::format("SPSC, {} bytes, copying", Bytes),
          .ours = measured<by_copying<our_spsc<type>, batch>>("push, pop", cores),
          .peers = {rte<by_copying<rte_spsc<type>, batch>>("rte_ring SP/SC, bulk", cores),
                    boost_queue<type>(cores), moodycamel_queue<type>(cores)},
          .owed_ratio_max = 1.0};
}

template <std::size_t Bytes>
contest in_place(const core_pair& cores) {
  using type = entry<Bytes>;
  contest row = copying<Bytes>(cores);
  row.name = fmt::format("SPSC, {} bytes, in place", Bytes);
  row.ours = measured<our_spsc_in_place<type, batch>>("reserve, commit; peek, consume", cores);
  row.owed_ratio_max = 0.8;
  row.shown = {rte<rte_spsc_in_place<type, batch>>("rte_ring SP/SC, zero-copy", cores)};
  return row;
}

template <std::size_t Batch>
contest any_to_any(const core_pair& cores) {
  using type = entry<8>;
  return {.name = fmt::format("MPMC, 8 bytes, batches of {}", Batch),
          .ours = measured<by_copying<our_mpmc<type>, Batch>>("try_push, try_pop", cores),
          .peers = {rte<by_copying<rte_mpmc<type>, Batch>>("rte_ring MP/MC, bulk", cores),
                    tbb_queue<type>(cores)},
          .owed_ratio_max = Batch == 1 ? 1.0 : 0};
}

/// Shows that a peer is at its best here: it does what its own bench does.
template <template <class> class Ring>
contestant untouched(const char* name, const core_pair& cores, double known) {
  return rte<by_copying<Ring<entry<8>>, batch, false>>(name, cores, known);
}

int run(int argc, char** argv) {
  const auto allowed = allowed_cores();
  if (!allowed || allowed->size() < 2) {
    fmt::print(stderr, "rings: two cores are needed\n");
    return 1;
  }
  const core_pair cores{allowed->front(), allowed->back()};
  const auto line = [cores] {
    return need(floor::ping_pong(raw(cores.sender), raw(cores.receiver)));
  };
  const bool near = line().state == floor::placement::near;  // for others nothing is known
  std::array rows{copying<8>(cores),   in_place<8>(cores),   copying<64>(cores),
                  in_place<64>(cores), any_to_any<1>(cores), any_to_any<batch>(cores)};
  rows[0].shown = {
      untouched<rte_spsc>("rte_ring SP/SC, untouched", cores, near ? known_spsc_near : 0)};
  rows[5].shown = {
      untouched<rte_mpmc>("rte_ring MP/MC, untouched", cores, near ? known_mpmc_near : 0)};
  return run_contests({.title = "rings, two cores",
                       .rows = rows,
                       .ping_pong_cycles = [line] { return line().cycles; }},
                      argc, argv);
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  return runnel::bench::run(argc, argv);
}
