#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <string>

#include "apps/cli/command.h"
#include "apps/identify/identify.h"

namespace runnel::cli {
namespace {

class identify_command final : public command {
 public:
  CLI::App* declare(CLI::App& program) override {
    CLI::App* const self = program.add_subcommand("identify", "Show what a device says of itself");
    self->add_option("address", address_, "vfio-user:PATH, or any other block address")->required();
    self->add_flag("--json", json_, "one JSON object on stdout");
    return self;
  }

  int run() override {
    if (!addresses_are_well_formed({address_})) {
      return exit_usage;
    }
    const auto found = identify::ask(address_);
    if (!found) {
      return report_failure(found.error());
    }
    fmt::print("{}{}", json_ ? identify::to_json(*found) : identify::to_text(*found),
               json_ ? "\n" : "");
    return exit_ok;
  }

 private:
  std::string address_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<command> make_identify_command() {
  return std::make_unique<identify_command>();
}

}  // namespace runnel::cli
