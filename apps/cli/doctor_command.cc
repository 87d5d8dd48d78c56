#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <string>
#include <utility>

#include "apps/cli/command.h"
#include "apps/doctor/doctor.h"

namespace runnel::cli {
namespace {

class doctor_command final : public command {
 public:
  CLI::App* declare(CLI::App& program) override {
    CLI::App* const self = program.add_subcommand(
        "doctor", "Find what this machine lacks for its devices, and what to do about it");
    self->add_flag("--json", json_, "one JSON object on stdout");
    self->add_option("--btf", packages_,
                     "folder of an unpacked kernel package whose structures to tell instead");
    self->footer("The exit status is 1 when a check has failed: `pci:` cannot work then.");
    return self;
  }

  int run() override {
    const doctor::machine here = doctor::this_machine();
    auto structures = packages_.empty() ? doctor::running_structures(here.files)
                                        : doctor::packaged_structures(packages_);
    if (!structures) {
      return report_failure(structures.error());
    }
    const doctor::diagnosis found = doctor::examine(here, std::move(*structures));
    fmt::print("{}{}", json_ ? doctor::to_json(found) : doctor::to_text(found), json_ ? "\n" : "");
    return found.is_fit() ? exit_ok : exit_failed;
  }

 private:
  bool json_ = false;
  std::string packages_;
};

}  // namespace

std::unique_ptr<command> make_doctor_command() {
  return std::make_unique<doctor_command>();
}

}  // namespace runnel::cli
