#include "apps/process/confine.h"

namespace runnel::process {

outcome<> confine(const confinement_options& wished, engine& host, task_report* tasks) {
  const auto how = confinement::create(wished);
  if (!how) {
    return std::unexpected{how.error()};
  }
  if (tasks != nullptr) {
    if (auto entered = tasks->confine(*how); !entered) {
      return entered;
    }
  }
  return host.confine(*how);
}

}  // namespace runnel::process
