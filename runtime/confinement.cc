#include "runtime/confinement.h"

#include <cap-ng.h>
#include <fmt/format.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <thread>

#include "mempool/base/unique_fd.h"

namespace runnel {
namespace {

constexpr std::size_t call_numbers = 512;
constexpr int from_seccomp = 1;  // the kernel's SYS_SECCOMP, which the C library does not have

struct context_releaser {
  void operator()(void* filter) const noexcept { seccomp_release(filter); }
};
using filter_context = std::unique_ptr<void, context_releaser>;

/// What system calls are called, by their numbers. Made before there is a filter, for a signal
/// handler may not ask the library.
const std::array<std::string, call_numbers>& call_names() {
  static const auto names = [] {
    std::array<std::string, call_numbers> all;
    for (std::size_t number = 0; number < all.size(); ++number) {
      const std::unique_ptr<char, decltype(&std::free)> name{
          seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(number)), &std::free};
      all[number] = name == nullptr ? "unknown" : name.get();
    }
    return all;
  }();
  return names;
}

[[nodiscard]] std::unexpected<failure> refuse(int negative_errno, const char* operation) {
  return fail({errc::os, static_cast<std::uint32_t>(-negative_errno)}, operation, "system calls",
              "this kernel or container refuses seccomp: `--seccomp off` does without");
}

/// @return 0 or minus errno
int add(scmp_filter_ctx filter, const allowed_call& call) {
  const scmp_arg_cmp limit{
      .arg = call.index, .op = SCMP_CMP_MASKED_EQ, .datum_a = call.mask, .datum_b = call.value};
  return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call.number, call.mask != 0 ? 1 : 0,
                                &limit);
}

/// As the kernel takes it: a tree over the numbers, so that a late one costs no more.
outcome<std::vector<sock_filter>> assemble(scmp_filter_ctx filter) {
  const unique_fd file{::memfd_create("filter", MFD_CLOEXEC)};
  int answer = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
  answer = answer == 0 ? seccomp_export_bpf(filter, file.get()) : answer;
  if (answer != 0) {
    return refuse(answer, "filter");
  }
  std::vector<sock_filter> program(static_cast<std::size_t>(::lseek(file.get(), 0, SEEK_END)) /
                                   sizeof(sock_filter));
  const auto bytes = std::as_writable_bytes(std::span{program});
  if (::pread(file.get(), bytes.data(), bytes.size(), 0) != std::ssize(bytes)) {
    return refuse(-errno, "filter");
  }
  return program;
}

/// @return 0 or minus errno
int load(std::span<const sock_filter> program) noexcept {
  // We run no code of strangers: without this flag older kernels switch off speculation for the
  // whole thread. And what is refused, too, goes into the kernel's log.
  constexpr unsigned flags = SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_LOG;
  const sock_fprog given{.len = static_cast<unsigned short>(program.size()),
                         .filter = const_cast<sock_filter*>(program.data())};  // only read
  return ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &given) == 0 ? 0 : -errno;
}

/// Has the C library look at what it looks at once, and later may not: time zones when first a time
/// is told, the policy of overcommitment when first the heap of a thread shrinks.
void have_libraries_settled() {
  constexpr std::size_t block_bytes = 100'000;  // from the heap; two of them are enough to trim it
  ::tzset();
  std::array<std::unique_ptr<char[]>, 4> blocks;
  std::ranges::generate(blocks, [] { return std::make_unique_for_overwrite<char[]>(block_bytes); });
}

}  // namespace

outcome<confinement> confinement::create(const confinement_options& wished) {
  confinement made{wished.keeps_pinning};
  if (wished.seccomp == seccomp_mode::off) {
    return made;
  }
  auto works = made.build_filters(wished.seccomp);
  if (works) {
    works = made.try_out();
  }
  if (!works && wished.required) {
    return std::unexpected{std::move(works.error())};
  }
  if (!works) {
    made.filters_ = {};
    made.note_ = works.error().message();
  }
  return made;
}

outcome<> confinement::build_filters(seccomp_mode mode) {
  static_cast<void>(call_names());
  const std::vector<allowed_call> calls = allowed_calls();
  for (std::size_t role = 0; role < thread_roles; ++role) {
    const filter_context filter{
        seccomp_init(mode == seccomp_mode::log ? SCMP_ACT_LOG : SCMP_ACT_TRAP)};
    int answer = filter == nullptr ? -ENOMEM : 0;
    for (const allowed_call& call : calls) {
      if (answer == 0 && call.who.has(static_cast<thread_role>(role))) {
        answer = add(filter.get(), call);
      }
    }
    if (answer != 0) {
      return refuse(answer, "filter");
    }
    auto assembled = assemble(filter.get());
    if (!assembled) {
      return std::unexpected{std::move(assembled.error())};
    }
    filters_[role] = std::move(*assembled);
  }
  return {};
}

/// Whoever refuses may do so at any step, so nothing less would tell.
outcome<> confinement::try_out() const {
  outcome<> entered;
  std::thread{[this, &entered] {
    have_libraries_settled();
    entered = enter(thread_role::control);
  }}.join();
  return entered;
}

outcome<> confinement::enter(thread_role role) const {
  if (auto dropped = drop_capabilities(); !dropped) {
    return dropped;
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL) != 0) {
    return refuse(-errno, "renounce privileges by");
  }
  const program& filter = filters_[static_cast<std::size_t>(role)];
  const int answer = filter.empty() ? 0 : load(filter);
  return answer == 0 ? outcome<>{} : refuse(answer, "filter");
}

/// Of this thread. Who may not drop from the bounding set has nothing in the others that it bounds,
/// and gets nothing by another program either, having renounced that.
outcome<> confinement::drop_capabilities() const {
  capng_get_caps_process();
  const bool pins = keeps_pinning_ && capng_have_capability(CAPNG_EFFECTIVE, CAP_IPC_LOCK) != 0;
  capng_clear(CAPNG_SELECT_ALL);
  if (pins) {
    capng_updatev(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED),
                  CAP_IPC_LOCK, -1);
  }
  if (capng_apply(CAPNG_SELECT_ALL) != 0) {
    return fail(os_error(), "drop", "capabilities", "start it as an ordinary user");
  }
  return {};
}

/// Returning would have the program go on as if the call had failed: the signal comes once more,
/// and finds nobody who handles it.
void die_of_refused_call(int signal, siginfo_t* info, void*) {
  std::array<char, 16> thread{};
  ::prctl(PR_GET_NAME, thread.data(), 0UL, 0UL, 0UL);
  const auto number = static_cast<unsigned>(info->si_syscall);
  const bool refused = info->si_code == from_seccomp && number < call_numbers;
  std::array<char, 192> line;  // the longest name of a call has 23 characters
  const auto end =
      fmt::format_to_n(line.data(), line.size(),
                       "runnel: thread {}: system call {} ({}) is not on its list; "
                       "with `--seccomp log` it is made and logged\n",
                       thread.data(), number, refused ? call_names()[number].c_str() : "unknown");
  // There is nobody to tell that it could not be told.
  [[maybe_unused]] const auto written =
      ::write(STDERR_FILENO, line.data(), std::min(end.size, line.size()));
  ::signal(signal, SIG_DFL);
  ::raise(signal);
}

}  // namespace runnel
