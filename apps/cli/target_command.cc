#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli/command.h"
#include "apps/cli/core_list.h"
#include "apps/process/confine.h"
#include "apps/target/target.h"
#include "runtime/engine.h"
#include "runtime/task_report.h"

namespace runnel::cli {
namespace {

// Rings and PRP lists of namespaces that are NVMe devices themselves.
constexpr std::size_t window_bytes = 64 * mib;
constexpr std::size_t scheme_bytes = std::string_view{"vfio-user:"}.size();

/// SIGTERM and SIGINT as something to wait for. Made before any thread, so that all of them leave
/// these signals alone.
class stop_signals {
 public:
  stop_signals() {
    sigemptyset(&wanted_);
    sigaddset(&wanted_, SIGTERM);
    sigaddset(&wanted_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &wanted_, nullptr);
  }
  void wait() const {
    int which = 0;
    sigwait(&wanted_, &which);
  }

 private:
  sigset_t wanted_{};
};

class target_command final : public command {
 public:
  CLI::App* declare(CLI::App& program) override {
    CLI::App* const self =
        program.add_subcommand("target", "Serve block devices as an NVMe controller");
    self->add_option("--listen", listeners_, "vfio-user:PATH, one controller each")->required();
    self->add_option("--namespace", namespaces_,
                     "block device to serve: file:PATH, ram:SIZE, null:[SIZE] or vfio-user:PATH")
        ->required();
    self->add_option("--cores", cores_, "cores to run on, as 0,2-5 or 0x3c")
        ->default_str("first allowed");
    add_poll_option(*self, poll_);
    add_seccomp_option(*self, confine_);
    self->add_option("--doorbells", doorbells_,
                     "mapped: rung without a message, needs --poll busy; shadow: in the host's "
                     "memory, where it can; trapped: always by a message")
        ->check(CLI::IsMember({"mapped", "shadow", "trapped"}))
        ->default_str("mapped with --poll busy, else shadow");
    return self;
  }

  int run() override {
    target::target_options wanted;
    if (const int wrong = read_options(wanted); wrong != exit_ok) {
      return wrong;
    }
    const stop_signals signals;
    const auto host = create_engine();
    if (!host) {
      return report_failure(host.error());
    }
    const auto tasks = task_report::on_signal(SIGUSR1, **host);
    if (!tasks) {
      return report_failure(tasks.error());
    }
    const auto log = spdlog::stderr_logger_mt("target");
    wanted.on_event = [&log](const target::port_event& event) { tell(*log, event); };
    const auto server = target::target::create(**host, wanted);
    if (!server) {
      return report_failure(server.error());
    }
    confine_.keeps_pinning = any_pins_memory(namespaces_);
    if (auto confined = process::confine(confine_, **host, tasks->get()); !confined) {
      return report_failure(confined.error());
    }
    if (auto started = (*server)->start(); !started) {
      return report_failure(started.error());
    }
    tell_notes((*host)->notes());
    tell_notes((*server)->notes());
    fmt::print("ready {} namespaces={}\n", fmt::join(listeners_, " "), namespaces_.size());
    std::fflush(stdout);
    signals.wait();
    if (auto stopped = (*server)->stop(); !stopped) {
      return report_failure(stopped.error());
    }
    tell(*log, **server, chosen_cores_);
    tell_notes((*host)->sleepless_cores());
    return exit_ok;
  }

 private:
  int read_options(target::target_options& wanted) {
    if (poll_ == poll_mode::adaptive && doorbells_ == "mapped") {
      return report_usage(
          "--doorbells mapped: a target that sleeps cannot see them; add --poll busy");
    }
    for (const std::string& listener : listeners_) {
      const auto where = io::parse_address(listener);
      if (!where || where->kind != io::scheme::vfio_user ||
          where->target.size() + scheme_bytes != listener.size()) {
        return report_usage(fmt::format(
            "--listen {}: nothing to listen on; write vfio-user:PATH, without options", listener));
      }
      wanted.listeners.push_back(where->target);
    }
    if (!addresses_are_well_formed(namespaces_)) {
      return exit_usage;
    }
    for (const std::string& space : namespaces_) {
      wanted.namespaces.push_back(*io::parse_address(space));
    }
    auto cores = choose_cores(cores_, default_core::first);
    if (!cores) {
      return report_usage(cores.error().message());
    }
    chosen_cores_ = std::move(*cores);
    const bool unsaid = doorbells_.empty();
    if (doorbells_ == "mapped" || (unsaid && poll_ == poll_mode::busy)) {
      wanted.doorbells = target::doorbell_mode::mapped;
    } else {
      wanted.doorbells = unsaid || doorbells_ == "shadow" ? target::doorbell_mode::shadow
                                                          : target::doorbell_mode::trapped;
    }
    return exit_ok;
  }

  [[nodiscard]] outcome<std::unique_ptr<engine>> create_engine() const {
    engine_options wanted;
    wanted.name = "target";
    for (const unsigned core : chosen_cores_) {
      wanted.cores.push_back(core_id{core});
    }
    wanted.window_bytes = window_bytes;
    wanted.poll = poll_;
    return engine::create(std::move(wanted));
  }

  static void tell(spdlog::logger& log, const target::port_event& event) {
    using kind = target::port_event::kind;
    if (event.why != nullptr) {
      log.warn("{}: {}", event.port, event.why->message());
    }
    if (event.what == kind::client_came) {
      log.info("{}: client came", event.port);
    } else if (event.what == kind::client_left) {
      log.info("{}: client left, served reads={} writes={}", event.port, event.reads, event.writes);
    }
  }

  static void tell(spdlog::logger& log, const target::target& stopped,
                   const std::vector<unsigned>& cores) {
    for (std::size_t i = 0; i < cores.size(); ++i) {
      const target::io_counters here = stopped.counters_of_core(i);
      log.info("core {} served reads={} writes={}", cores[i], here.reads, here.writes);
    }
    const target::io_counters total = stopped.counters();
    log.info(
        "served reads={} writes={} bytes_read={} bytes_written={} errors={} "
        "payload_bytes_copied={}",
        total.reads, total.writes, total.bytes_read, total.bytes_written, total.errors,
        stopped.payload_bytes_copied());
  }

  std::vector<std::string> listeners_;
  std::vector<std::string> namespaces_;
  std::vector<unsigned> chosen_cores_;
  std::string cores_;
  poll_mode poll_ = poll_mode::adaptive;
  confinement_options confine_;
  std::string doorbells_;
};

}  // namespace

std::unique_ptr<command> make_target_command() {
  return std::make_unique<target_command>();
}

}  // namespace runnel::cli
