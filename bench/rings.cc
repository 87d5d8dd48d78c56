// Claim: handing entries from one core to another through our rings costs no more than through the
// best ring a user could take instead, and a fifth less when they are made and read in place. All
// of them move the same entries between the same two pinned threads, in interleaved rounds.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <string>
#include <utility>

#include "bench/bench.h"
#include "bench/contest.h"
#include "bench/ring_kinds.h"
#include "bench/transfer.h"

namespace runnel::bench {
namespace {

constexpr std::size_t batch = 32;
/// TSC cycles per entry of rte_ring in batches of 32 that nobody makes or reads, by dpdk-test,
/// which adds up the two sides', on two cores whose cache line takes so long there and back: 300
/// cycles, and a faster one makes nothing dearer; or 940. Either a quarter more or less.
struct known_costs {
  double line_min;
  double line_max;
  double spsc;
  double mpmc;
};
constexpr known_costs known[] = {{0, 375, 4.6 / 2, 6.1 / 2}, {750, 1175, 13.6 / 2, 59.9 / 2}};

/// What is known where a line takes about as long as now; zeros where nothing is.
known_costs known_at(double line) {
  const auto* const found = std::ranges::find_if(
      known, [line](const known_costs& one) { return line > one.line_min && line < one.line_max; });
  return found != std::end(known) ? *found : known_costs{};
}

constexpr const char* dpdk_package = "libdpdk-dev";
constexpr const char* boost_package = "libboost-dev";
constexpr const char* readerwriterqueue_package = "libreaderwriterqueue-dev";
constexpr const char* tbb_package = "libtbb-dev";

template <class Ring>
contestant measured(const std::string& name, const core_pair& cores, double owed_ratio_max = 0) {
  return {.name = name,
          .cost = [cores](double seconds) { return least_cycles_per_entry<Ring>(cores, seconds); },
          .owed_ratio_max = owed_ratio_max};
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
contestant rte(const char* name, const core_pair& cores) {
  return measured<Ring>(name, cores);
}
#else
template <class Ring>
contestant rte(const char* name, const core_pair&) {
  return {.name = name, .lacks = dpdk_package};
}
#endif

/// What an rte_ring does that nobody fills or reads, as in its own bench: shows whether it is at
/// its best here, for all contests.
template <class Ring>
contestant untouched(const char* name, const core_pair& cores, double known_cycles) {
  contestant shown = rte<by_copying<Ring, batch, false>>(name, cores);
  shown.known_cost = known_cycles;
  return shown;
}

template <std::size_t Bytes>
contest one_to_one(const core_pair& cores) {
  using type = entry<Bytes>;
  const auto name = [](const char* how) { return fmt::format("SPSC, {} bytes, {}", Bytes, how); };
  return {.unit = "cycles",
          .ours = {measured<by_copying<our_spsc<type>, batch>>(name("copying"), cores, 1.0),
                   measured<our_spsc_in_place<type, batch>>(name("in place"), cores, 0.8)},
          .peers = {rte<by_copying<rte_spsc<type>, batch>>("rte_ring SP/SC, bulk", cores),
                    boost_queue<type>(cores), moodycamel_queue<type>(cores)},
          .shown = {rte<rte_spsc_in_place<type, batch>>("rte_ring SP/SC, zero-copy", cores)}};
}

/// @param owed_ratio_max  0: nothing is owed
template <std::size_t Batch>
contest any_to_any(const core_pair& cores, double owed_ratio_max) {
  using type = entry<8>;
  return {.unit = "cycles",
          .ours = {measured<by_copying<our_mpmc<type>, Batch>>(
              fmt::format("MPMC, 8 bytes, batches of {}", Batch), cores, owed_ratio_max)},
          .peers = {rte<by_copying<rte_mpmc<type>, Batch>>("rte_ring MP/MC, bulk", cores),
                    tbb_queue<type>(cores)}};
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  const auto both = two_cores();
  const core_pair cores{.sender = runnel::core_id{both.second},
                        .receiver = runnel::core_id{both.first}};
  const known_costs best = known_at(ping_pong_cycles(both));
  std::array contests{one_to_one<8>(cores), one_to_one<64>(cores), any_to_any<1>(cores, 1.0),
                      any_to_any<batch>(cores, 0)};
  contests[0].shown.push_back(
      untouched<rte_spsc<entry<8>>>("rte_ring SP/SC, untouched", cores, best.spsc));
  contests[3].shown.push_back(
      untouched<rte_mpmc<entry<8>>>("rte_ring MP/MC, untouched", cores, best.mpmc));
  return run_contests({.title = "rings, two cores, per entry", .contests = contests, .cores = both},
                      {argc, argv});
}
