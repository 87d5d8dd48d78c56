// Claim: random reads of 4 KiB from a file through our io_uring driver are as fast and as prompt as
// fio's, and cost less of a core. One file, past the page cache, 32 in flight, in interleaved runs.

#include <CLI/CLI.hpp>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstddef>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "apps/process/child_process.h"
#include "bench/bench.h"
#include "bench/need.h"
#include "bench/programs.h"
#include "bench/rounds.h"
#include "bench/samples.h"
#include "mempool/base/unique_fd.h"
#include "mempool/base/units.h"
#include "mempool/private_memory.h"

namespace runnel::bench {
namespace {

constexpr double of_fios_iops_min = 0.98;
constexpr double of_fios_p99_max = 1.1;
constexpr double of_fios_cpu_max = 0.8;

struct options : settings {
  std::string runnel = {};
  std::string folder = ".";
  std::string poll = "adaptive";
  std::uint64_t mebibytes = 256;
};

/// A file of random bytes without a name, so that nobody need remove it.
class random_file {
 public:
  random_file(const std::string& folder, std::uint64_t bytes)
      : fd_{open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)} {
    const auto memory = private_memory::create(mib);
    if (!fd_ || !memory) {
      give_up({.what = fd_ ? memory.error().what : os_error(),
               .operation = "make a file in",
               .object = folder,
               .hint = "choose another --folder"});
    }
    std::minstd_rand random{1};
    for (std::uint64_t at = 0; at < bytes; at += mib) {
      for (std::byte& one : memory->bytes()) {
        one = static_cast<std::byte>(random());
      }
      if (write(fd_.get(), memory->bytes().data(), mib) != static_cast<ssize_t>(mib)) {
        give_up({.what = os_error(), .operation = "write to", .object = folder, .hint = {}});
      }
    }
    fsync(fd_.get());
  }

  /// As other processes open it.
  [[nodiscard]] std::string path() const {
    return fmt::format("/proc/{}/fd/{}", getpid(), fd_.get());
  }

 private:
  unique_fd fd_;
};

/// What either program reached in one run.
struct figures {
  double kilo_iops = 0;
  double p99_us = 0;
  double cpu_ns = 0;  // per I/O
};

struct sample {
  figures ours;
  figures fio;
  bool preempted = false;
};

finished_run run_ours(const options& asked, const random_file& file) {
  return run_watched({asked.runnel, "perf", fmt::format("file:{}?block_size=4096", file.path()),
                      "--json", "--depth", "32", "--time", fmt::format("{}", asked.seconds),
                      "--warmup", "0", "--poll", asked.poll});
}

figures figures_of_ours(const finished_run& run) {
  return {.kilo_iops = run.output["iops"].get<double>() / 1e3,
          .p99_us = run.output["latency_ns"]["p99"].get<double>() / 1e3,
          .cpu_ns = run.cpu_ns / run.output["ios"].get<double>()};
}

/// The settings it is fastest with: registered file and memory, no table of blocks it has read, no
/// process for its one job, and several I/Os a system call.
finished_run run_fio(const options& asked, const random_file& file) {
  const auto milliseconds = static_cast<unsigned>(asked.seconds * 1e3);
  return run_watched({"fio",
                      "--name=file",
                      "--filename=" + file.path(),
                      "--readonly",
                      "--rw=randread",
                      "--bs=4k",
                      "--direct=1",
                      "--ioengine=io_uring",
                      "--iodepth=32",
                      "--registerfiles",
                      "--fixedbufs",
                      "--iodepth_batch_submit=8",
                      "--iodepth_batch_complete_max=32",
                      "--norandommap",
                      "--randrepeat=0",
                      "--thread",
                      "--time_based",
                      fmt::format("--runtime={}ms", milliseconds),
                      fmt::format("--cpus_allowed={}", last_core()),
                      "--lat_percentiles=1",
                      "--clat_percentiles=0",
                      "--percentile_list=99",
                      "--output-format=json"});
}

figures figures_of_fio(const finished_run& run) {
  const auto& read = run.output["jobs"][0]["read"];
  return {.kilo_iops = read["iops"].get<double>() / 1e3,
          .p99_us = read["lat_ns"]["percentile"]["99.000000"].get<double>() / 1e3,
          .cpu_ns = run.cpu_ns / read["total_ios"].get<double>()};
}

rounds_taken<sample> measure(const options& asked) {
  const random_file file{asked.folder, asked.mebibytes * mib};
  bool fio_is_first = false;
  return take_rounds(asked.rounds, [&] {
    fio_is_first = !fio_is_first;
    finished_run fio;
    if (fio_is_first) {
      fio = run_fio(asked, file);
    }
    const finished_run ours = run_ours(asked, file);
    if (!fio_is_first) {
      fio = run_fio(asked, file);
    }
    return sample{.ours = figures_of_ours(ours),
                  .fio = figures_of_fio(fio),
                  .preempted = ours.preempted() || fio.preempted()};
  });
}

/// @param field  the figure that is judged
row compare(const char* name, const char* unit, const rounds_taken<sample>& taken,
            double figures::* field) {
  const auto ours = column(taken.samples, [=](const sample& one) { return one.ours.*field; });
  return {
      .name = name,
      .unit = unit,
      .figure = median_of(ours),
      .spread = spread_of(ours),
      .against = "fio io_uring",
      .peer = median_of(column(taken.samples, [=](const sample& one) { return one.fio.*field; })),
      .ratio = median_of(column(
          taken.samples, [=](const sample& one) { return one.ours.*field / one.fio.*field; })),
      .discarded = taken.discarded,
      .why_void = taken.why_void};
}

void judge(const rounds_taken<sample>& taken, const row_sink& add) {
  row rate = compare("random read, rate", "k IOPS", taken, &figures::kilo_iops);
  rate.owed = fmt::format(">= {}x", of_fios_iops_min);
  rate.holds = at_least(*rate.ratio, of_fios_iops_min);
  add(rate);
  row p99 = compare("random read, p99", "us", taken, &figures::p99_us);
  p99.owed = fmt::format("<= {}x", of_fios_p99_max);
  p99.holds = at_most(*p99.ratio, of_fios_p99_max);
  add(p99);
  row cpu = compare("random read, CPU per I/O", "ns", taken, &figures::cpu_ns);
  cpu.owed = fmt::format("<= {}x", of_fios_cpu_max);
  cpu.holds = at_most(*cpu.ratio, of_fios_cpu_max);
  add(cpu);
}

}  // namespace
}  // namespace runnel::bench

int main(int argc, char** argv) {
  using namespace runnel::bench;
  options asked;
  asked.seconds = 1;
  return run_bench(
      {.title = "a file through io_uring, 4 KiB, depth 32",
       .declare =
           [&asked](CLI::App& program) {
             program.add_option("--runnel", asked.runnel, "the binary to measure")->required();
             program.add_option("--folder", asked.folder, "where the file is made")
                 ->capture_default_str();
             program.add_option("--size", asked.mebibytes, "of the file, in MiB")
                 ->capture_default_str();
             program.add_option("--poll", asked.poll, "of perf: busy or adaptive")
                 ->capture_default_str();
           },
       .measure =
           [&asked](const row_sink& add) {
             if (!runnel::process::run_tool({"fio", "--version"})) {
               skip("fio is missing: apt-get install fio");
             }
             judge(measure(asked), add);
           }},
      asked, {argc, argv});
}
