#pragma once

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string>

#include "tests/sim/conformance/subject.h"

// The one table of what is refused, and how: a row for each way to be refused, a column for each
// way to the device. Fake and real kernels are held to the same column, so one that differs fails.
namespace runnel::sim {

inline constexpr int no_row = -1;  // this cannot be asked that way

/// What is provoked, and the errno of group, compat, cdev and vfio_user; 0: it is done.
template <class Asked>
struct errno_row {
  const char* what;
  std::array<int, ways> expected;
  int (*provoke)(Asked& asked);
  /// What older kernels said by one way.
  struct {
    unsigned since = 0;  // the first kernel that the table is of: 602 is 6.2
    int before = no_row;
    way how = way::group;
  } change = {};

  [[nodiscard]] int expected_of(const subject_kind& kind) const {
    const bool is_old = kind.how == change.how && kind.kernel_version < change.since;
    return is_old ? change.before : expected[static_cast<std::size_t>(kind.how)];
  }
};

/// "EINVAL"; "-" for none.
[[nodiscard]] inline std::string name_of_errno(int number) {
  const char* const name = number == 0 ? "-" : ::strerrorname_np(number);
  return name == nullptr ? std::to_string(number) : name;
}

}  // namespace runnel::sim
