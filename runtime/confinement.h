#pragma once

#include <linux/filter.h>
#include <signal.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "mempool/base/error.h"
#include "mempool/base/sanitizer.h"
#include "runtime/allowed_calls.h"

namespace runnel {

/// What comes of a system call that is not on the list of its thread.
enum class seccomp_mode : std::uint8_t {
  off,  // it is made: there are no filters
  log,  // it is made, and the kernel's log has it (type=1326)
  on,   // it is not: the process ends by SIGSYS
};

#if defined(RUNNEL_ADDRESS_SANITIZER) || defined(RUNNEL_THREAD_SANITIZER)
inline constexpr seccomp_mode seccomp_default =
    seccomp_mode::off;  // reports need calls of their own
#else
inline constexpr seccomp_mode seccomp_default = seccomp_mode::on;
#endif

struct confinement_options {
  seccomp_mode seccomp = seccomp_default;
  bool required = false;  // filters that are refused are an error, else a note
  /// CAP_IPC_LOCK is kept by who has it: memory that is pinned later is then not counted against
  /// RLIMIT_MEMLOCK, as what was pinned before was not.
  bool keeps_pinning = false;
};

/// What a program needs no more once it has started, taken from its threads: all capabilities, ways
/// to new ones (NO_NEW_PRIVS), and every system call that is not among `allowed_calls`. It holds
/// for good, for threads that a confined one starts, and for programs that it becomes.
class confinement {
 public:
  /// Builds the filters, and tries them on a thread of its own.
  /// @error os, unsupported: filters are required and refused, as in some containers
  /// @context control thread
  [[nodiscard]] static outcome<confinement> create(const confinement_options& wished);

  /// Confines the calling thread.
  /// @error os; the thread may have lost some of it already
  /// @context any thread, once; system calls, allocates
  [[nodiscard]] outcome<> enter(thread_role role) const;

  /// Why system calls are not filtered, though they should be; empty: they are as wished.
  [[nodiscard]] const std::string& note() const noexcept { return note_; }

 private:
  using program = std::vector<sock_filter>;

  explicit confinement(bool keeps_pinning) noexcept : keeps_pinning_{keeps_pinning} {}
  [[nodiscard]] outcome<> build_filters(seccomp_mode mode);
  [[nodiscard]] outcome<> try_out() const;
  [[nodiscard]] outcome<> drop_capabilities() const;

  std::array<program, thread_roles> filters_;  // empty: none
  bool keeps_pinning_;
  std::string note_;
};

/// A handler of SIGSYS (SA_SIGINFO), for the application to install: says in one line on standard
/// error which thread made which system call that its filter refused; then the process dies of the
/// signal. Without it, it dies in silence.
void die_of_refused_call(int signal, siginfo_t* info, void* where);

}  // namespace runnel
