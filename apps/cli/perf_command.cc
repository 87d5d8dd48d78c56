#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <map>
#include <string>

#include "apps/cli/command.h"
#include "apps/cli/core_list.h"
#include "apps/cli/progress_bar.h"
#include "apps/perf/run.h"
#include "runtime/cores.h"
#include "runtime/io/address.h"

namespace runnel::cli {
namespace {

constexpr std::uint32_t depth_max = 262'144;  // what the device takes is its own matter
constexpr std::uint64_t io_bytes_max = 64 * mib;

class perf_command final : public command {
 public:
  CLI::App* declare(CLI::App& program) override {
    CLI::App* const self =
        program.add_subcommand("perf", "Measure a block device: rate, latency, data");
    self->add_option("address", asked_.address,
                     "vfio-user:PATH, file:PATH, ram:SIZE or null:[SIZE]")
        ->required();
    self->add_option("--rw", asked_.rw, "randread, randwrite, read, write or randrw")
        ->transform(CLI::CheckedTransformer(
            std::map<std::string, perf::pattern>{{"randread", perf::pattern::randread},
                                                 {"randwrite", perf::pattern::randwrite},
                                                 {"read", perf::pattern::read},
                                                 {"write", perf::pattern::write},
                                                 {"randrw", perf::pattern::randrw}}))
        ->default_str("randread");
    self->add_option("--block-size", io_size_, "bytes per I/O, such as 4k")->capture_default_str();
    self->add_option("--depth", asked_.depth, "I/Os in flight, per core")
        ->check(CLI::PositiveNumber)
        ->capture_default_str();
    self->add_option("--time", seconds_, "seconds to measure")
        ->check(CLI::Range(0.001, 86'400.0))
        ->capture_default_str();
    self->add_option("--warmup", warmup_seconds_, "seconds before that")
        ->check(CLI::Range(0.0, 3'600.0))
        ->capture_default_str();
    self->add_option("--cores", cores_, "cores to run on, as 0,2-5 or 0x3c")
        ->default_str("last allowed");
    add_poll_option(*self, asked_.poll);
    add_seccomp_option(*self, confine_);
    self->add_option("--rate", asked_.rate,
                     "I/Os per second over all cores; latency counts from the intended start")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}));
    self->add_option("--seed", asked_.seed, "of the random offsets and of --verify")
        ->capture_default_str();
    self->add_flag("--verify", asked_.verify,
                   "write the whole device first, then check every block that is read");
    self->add_flag("--touch", asked_.touch, "read the data after every I/O");
    self->add_flag("--raw", asked_.raw, "submit and poll without coroutines");
    self->add_flag("--json", json_, "one JSON object on stdout");
    return self;
  }

  int run() override {
    if (const int wrong = complete_options(); wrong != exit_ok) {
      return wrong;
    }
    const auto measured = measure();
    if (!measured) {
      return io::is_usage_error(measured.error()) ? report_usage(measured.error().message())
                                                  : report_failure(measured.error());
    }
    fmt::print("{}\n", json_ ? perf::to_json(*measured) : perf::to_text(*measured));
    return judge(*measured);
  }

 private:
  outcome<perf::report> measure() {
    progress_bar bar{{.name = "s", .scale = 1000}};
    if (bar.visible()) {  // else the thread that tells would wake on a core that is measured
      asked_.progress = [&bar](std::uint64_t done, std::uint64_t total) { bar.show(done, total); };
    }
    return perf::run(asked_);
  }

  /// What the parser cannot check or compute by itself. @return exit_ok, or the end
  int complete_options() {
    if (!addresses_are_well_formed({asked_.address})) {
      return exit_usage;
    }
    const auto io_bytes = io::parse_size(io_size_);
    if (!io_bytes) {
      return report_usage(io_bytes.error().message());
    }
    if (*io_bytes == 0 || *io_bytes > io_bytes_max) {
      return report_usage(fmt::format("--block-size {}: one byte to 64M", io_size_));
    }
    confine_.keeps_pinning = any_pins_memory({asked_.address});
    asked_.confine = confine_;
    asked_.io_bytes = static_cast<std::uint32_t>(*io_bytes);
    asked_.duration = nanoseconds{static_cast<std::int64_t>(seconds_ * 1e9)};
    asked_.warmup = nanoseconds{static_cast<std::int64_t>(warmup_seconds_ * 1e9)};
    auto cores = choose_cores(cores_, default_core::last);
    if (!cores) {
      return report_usage(cores.error().message());
    }
    asked_.cores = std::move(*cores);
    if (asked_.depth > depth_max) {
      return report_failure({.what = {errc::invalid},
                             .operation = "measure",
                             .object = asked_.address,
                             .hint = fmt::format("--depth {} is over {}, the most there is",
                                                 asked_.depth, depth_max)});
    }
    return exit_ok;
  }

  /// A run with errors has a result, and fails.
  static int judge(const perf::report& measured) {
    if (measured.errors() == 0) {
      tell_notes(measured.notes);
      return exit_ok;
    }
    for (const perf::core_result& core : measured.cores) {
      if (core.first_error.code == errc::device_gone) {
        return report_failure({.what = core.first_error,
                               .operation = "measure",
                               .object = measured.device,
                               .hint = measured.mishap});
      }
    }
    for (const perf::core_result& core : measured.cores) {
      if (core.first_error.code != errc::ok) {
        return report_failure(
            {.what = core.first_error,
             .operation = fmt::format("do {} of", perf::name_of(measured.asked.rw)),
             .object = measured.device,
             .hint = fmt::format("{} I/Os failed{}{}", measured.errors(),
                                 measured.mishap.empty() ? "" : "; ", measured.mishap)});
      }
    }
    return report_failure(
        {.what = {errc::data_differs},
         .operation = "verify",
         .object = measured.device,
         .hint = fmt::format("{} reads did not deliver the last acknowledged write",
                             measured.errors())});
  }

  perf::options asked_;
  confinement_options confine_;
  std::string io_size_ = "4k";
  std::string cores_;
  double seconds_ = 10;
  double warmup_seconds_ = 1;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<command> make_perf_command() {
  return std::make_unique<perf_command>();
}

}  // namespace runnel::cli
