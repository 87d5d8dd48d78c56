#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "apps/cli/command.h"
#include "mempool/sigbus.h"
#include "runtime/confinement.h"
#include "runtime/io/address.h"

namespace runnel::cli {
namespace {

struct sigaction previous_sigbus_action;

/// A client that shrinks memory it shared with us faults our access: that ends the client only.
/// Anything else faults again under the old handler, as it should.
void on_sigbus(int, siginfo_t* info, void*) {
  if (!handle_sigbus(*info)) {
    sigaction(SIGBUS, &previous_sigbus_action, nullptr);
  }
}

void install_signal_handlers() {
  struct sigaction action{};
  action.sa_sigaction = on_sigbus;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, &previous_sigbus_action);
  action.sa_sigaction = die_of_refused_call;
  sigaction(SIGSYS, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);  // a reader that leaves is an error of write(2), not our end
  sigset_t taken_by_a_thread;
  sigemptyset(&taken_by_a_thread);
  sigaddset(&taken_by_a_thread, SIGUSR1);  // see task_report
  pthread_sigmask(SIG_BLOCK, &taken_by_a_thread, nullptr);
}

/// Each client may have hundreds of descriptors, and what one takes another lacks. The soft limit
/// is low for the sake of select(2), which is not used here.
void allow_many_descriptors() {
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);  // the soft limit may always become the hard one
  }
}

/// CLI11 explains over several lines; scripts and people want one.
std::string first_line(std::string text) {
  const std::size_t end = text.find('\n');
  if (end != std::string::npos) {
    text.resize(end);
  }
  return text;
}

int run_program(int argc, char** argv) {
  CLI::App program{
      "A polled-mode I/O runtime: NVMe disks at memory speed, with or without hardware."};
  program.name("runnel");
  program.set_version_flag("--version", "runnel " RUNNEL_VERSION);
  program.require_subcommand(1);

  std::vector<std::pair<CLI::App*, std::unique_ptr<command>>> commands;
  for (auto* make :
       {make_target_command, make_perf_command, make_copy_command, make_identify_command,
        make_devices_command, make_bind_command, make_unbind_command, make_doctor_command,
        make_floor_command, make_demo_command}) {
    auto one = make();
    CLI::App* const declared = one->declare(program);
    commands.emplace_back(declared, std::move(one));
  }
  try {
    program.parse(argc, argv);
  } catch (const CLI::Success& wanted) {  // --help, --version
    return program.exit(wanted);
  } catch (const CLI::ParseError& problem) {
    // CLI11 says of an unknown command only that one is required.
    const bool unknown = argc > 1 && argv[1][0] != '-' && program.get_subcommands().empty();
    return report_usage(
        (unknown ? "unknown command " + std::string{argv[1]} : first_line(problem.what())) +
        "; see `runnel --help`");
  }
  for (auto& [declared, chosen] : commands) {
    if (declared->parsed()) {
      return chosen->run();
    }
  }
  return exit_usage;
}

}  // namespace

int report_failure(const failure& what) {
  fmt::print(stderr, "runnel: {}\n", what.message());
  return exit_failed;
}

int report_usage(const std::string& message) {
  fmt::print(stderr, "runnel: {}\n", message);
  return exit_usage;
}

void tell_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) {
    fmt::print(stderr, "runnel: note: {}\n", note);
  }
}

void add_poll_option(CLI::App& to, poll_mode& mode) {
  to.add_option("--poll", mode,
                "busy: cores look for work all the time; adaptive: they sleep when there is none")
      ->transform(CLI::CheckedTransformer(std::map<std::string, poll_mode>{
          {"busy", poll_mode::busy}, {"adaptive", poll_mode::adaptive}}))
      ->default_str(mode == poll_mode::busy ? "busy" : "adaptive");
}

void add_seccomp_option(CLI::App& to, confinement_options& wished) {
  to.add_option_function<seccomp_mode>(
        "--seccomp",
        [&wished](const seccomp_mode& said) {
          wished.seccomp = said;
          wished.required = true;
        },
        "what comes of a system call that a started program has no need for: on: SIGSYS ends it; "
        "log: the kernel's log has it; off: nothing. Unsaid, it is on where the kernel lets us, "
        "and "
        "a note tells where not; said, it is an error where not")
      ->transform(CLI::CheckedTransformer(std::map<std::string, seccomp_mode>{
          {"off", seccomp_mode::off}, {"log", seccomp_mode::log}, {"on", seccomp_mode::on}}))
      ->default_str(seccomp_default == seccomp_mode::on ? "on" : "off");
}

bool any_pins_memory(const std::vector<std::string>& addresses) {
  return std::ranges::any_of(addresses, [](const std::string& address) {
    const auto where = io::parse_address(address);
    return where && where->kind == io::scheme::pci;
  });
}

bool addresses_are_well_formed(const std::vector<std::string>& addresses) {
  for (const std::string& address : addresses) {
    if (const auto parsed = io::parse_address(address); !parsed) {
      report_usage(parsed.error().message());
      return false;
    }
  }
  return true;
}

}  // namespace runnel::cli

int main(int argc, char** argv) {
  try {
    runnel::cli::install_signal_handlers();
    runnel::cli::allow_many_descriptors();
    return runnel::cli::run_program(argc, argv);
  } catch (const std::exception& problem) {  // libraries of the control plane: out of memory, JSON
    fmt::print(stderr, "runnel: {}\n", problem.what());
    return runnel::cli::exit_failed;
  }
}
