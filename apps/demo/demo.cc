#include "apps/demo/demo.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <utility>

#include "apps/copy/copy.h"
#include "apps/demo/changed_blocks.h"
#include "apps/demo/sha256.h"
#include "apps/perf/run.h"
#include "apps/process/child_process.h"
#include "mempool/pages.h"
#include "runtime/cores.h"

namespace runnel::demo {
namespace {

namespace fs = std::filesystem;
using process::child_process;
using process::run_tool;

constexpr std::chrono::seconds patience{30};
constexpr const char* real_files = "/usr/share/common-licenses";
constexpr const char* added_text = "These words came over an NVMe queue pair in shared memory.\n";

/// A folder of our own that goes away with everything in it.
class scratch_folder {
 public:
  [[nodiscard]] static outcome<scratch_folder> create() {
    std::string path = (fs::temp_directory_path() / "runnel-demo-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) {
      return fail(os_error(), "create", path);
    }
    return scratch_folder{std::move(path)};
  }
  scratch_folder(scratch_folder&& other) noexcept : path_{std::exchange(other.path_, {})} {}
  scratch_folder& operator=(scratch_folder&&) = delete;
  scratch_folder(const scratch_folder&) = delete;
  scratch_folder& operator=(const scratch_folder&) = delete;
  ~scratch_folder() {
    if (!path_.empty()) {
      std::error_code ignored;
      fs::remove_all(path_, ignored);
    }
  }
  [[nodiscard]] std::string operator/(const char* name) const { return path_ + "/" + name; }

 private:
  explicit scratch_folder(std::string path) : path_{std::move(path)} {}
  std::string path_;
};

template <class... Words>
void say(fmt::format_string<Words...> text, Words&&... words) {
  fmt::print(text, std::forward<Words>(words)...);
  std::fflush(stdout);
}

/// An ext4 image that holds real files: the licences of this system and this very program.
outcome<> make_image(const scratch_folder& folder, const options& asked) {
  const std::string tree = folder / "tree";
  std::error_code problem;
  fs::create_directory(tree, problem);
  if (fs::exists(real_files)) {
    fs::copy(real_files, tree + "/licences", fs::copy_options::recursive, problem);
  }
  const bool copied = fs::copy_file(asked.program, tree + "/runnel", problem);
  const std::uintmax_t program_bytes = copied ? fs::file_size(tree + "/runnel", problem) : 0;
  if (problem) {
    return fail({errc::os, static_cast<std::uint32_t>(problem.value())}, "copy files to", tree);
  }
  constexpr std::uintmax_t room_mib = 64;  // besides the program, which is large in a debug build
  const std::string size = fmt::format("{}M", room_mib + program_bytes / mib);
  const auto made = run_tool({"mkfs.ext4", "-q", "-d", tree, folder / "disk.img", size});
  return made ? outcome<>{} : std::unexpected{made.error()};
}

outcome<child_process> serve(const options& asked, const std::string& socket,
                             const std::string& space) {
  auto target = child_process::start({asked.program, "target", "--poll", "busy", "--listen",
                                      "vfio-user:" + socket, "--namespace", space},
                                     process::complaints::to_output);
  if (!target) {
    return target;
  }
  if (auto ready = target->wait_for_line("ready ", patience); !ready) {
    return std::unexpected{ready.error()};
  }
  return target;
}

outcome<> stop(child_process& target) {
  const auto status = target.stop(patience);
  if (!status) {
    return std::unexpected{status.error()};
  }
  if (*status != 0) {
    return fail({errc::bad_status, static_cast<std::uint32_t>(*status)}, "stop", "the target");
  }
  return {};
}

/// Both checksums, one a line; a difference is a failure.
outcome<> compare_checksums(const std::string& served, const std::string& copied) {
  const auto of_served = sha256_of_file(served);
  const auto of_copied = sha256_of_file(copied);
  if (!of_served || !of_copied) {
    return std::unexpected{of_served ? of_copied.error() : of_served.error()};
  }
  say("    {}  what the file holds\n    {}  what came over NVMe\n", *of_served, *of_copied);
  if (*of_served != *of_copied) {
    return fail({errc::bad_status}, "compare", copied, "the checksums differ");
  }
  say("    equal\n");
  return {};
}

outcome<> copy_out(const scratch_folder& folder, const std::string& disk) {
  say("2. Copying it out with the NVMe driver\n");
  const auto bytes = copy::run({.from = disk, .to = folder / "copy.img", .progress = {}});
  if (!bytes) {
    return std::unexpected{bytes.error()};
  }
  return compare_checksums(folder / "disk.img", folder / "copy.img");
}

/// Adds a file to the copy, and writes to the served disk only the blocks that this changed.
outcome<> write_back(const scratch_folder& folder, const std::string& disk) {
  const std::string note = folder / "note.txt";
  std::ofstream{note} << added_text;
  fs::copy_file(folder / "disk.img", folder / "before.img");
  const auto added =
      run_tool({"debugfs", "-w", "-R", "write " + note + " note.txt", folder / "copy.img"});
  if (!added) {
    return std::unexpected{added.error()};
  }
  const auto blocks = write_changed_blocks(folder / "before.img", folder / "copy.img", disk);
  if (!blocks) {
    return std::unexpected{blocks.error()};
  }
  say("3. Added a file to the copy and wrote the {} changed blocks back\n", *blocks);
  return {};
}

outcome<> check_file_system(const scratch_folder& folder) {
  const std::string image = folder / "disk.img";
  if (const auto clean = run_tool({"e2fsck", "-fn", image}); !clean) {
    return std::unexpected{clean.error()};
  }
  const auto text = run_tool({"debugfs", "-R", "cat note.txt", image});
  if (!text) {
    return std::unexpected{text.error()};
  }
  if (!text->ends_with(added_text)) {  // debugfs introduces itself first
    return fail({errc::bad_status}, "read note.txt from", image, "it is not what was written");
  }
  say("4. e2fsck: the served image is clean, and the new file is in it\n");
  return {};
}

outcome<> show_image(const scratch_folder& folder, const options& asked) {
  if (auto made = make_image(folder, asked); !made) {
    return made;
  }
  say("1. An ext4 image with real files, served as an NVMe disk by another process\n");
  const std::string socket = folder / "disk.sock";
  auto target = serve(asked, socket, "file:" + (folder / "disk.img"));
  if (!target) {
    return std::unexpected{target.error()};
  }
  const std::string disk = "vfio-user:" + socket;
  if (auto copied = copy_out(folder, disk); !copied) {
    return copied;
  }
  if (auto written = write_back(folder, disk); !written) {
    return written;
  }
  if (auto stopped = stop(*target); !stopped) {
    return stopped;
  }
  return check_file_system(folder);
}

outcome<perf::report> measure(const std::string& disk, unsigned core, perf::pattern rw,
                              std::chrono::milliseconds duration) {
  perf::options load;
  load.address = disk;
  load.rw = rw;
  load.depth = 32;
  load.duration = duration;
  load.warmup = std::chrono::milliseconds{200};
  load.cores = {core};
  return perf::run(load);
}

outcome<> show_speed(const scratch_folder& folder, const options& asked) {
  const auto cores = allowed_cores();
  if (!cores) {
    return std::unexpected{cores.error()};
  }
  const std::string socket = folder / "ram.sock";
  auto target = serve(asked, socket, "ram:256M");
  if (!target) {
    return std::unexpected{target.error()};
  }
  const std::string disk = "vfio-user:" + socket;
  say("5. Random 4 KiB reads from 256 MiB of memory in another process\n");
  const unsigned core = raw(cores->back());
  if (auto filled = measure(disk, core, perf::pattern::write, std::chrono::milliseconds{800});
      !filled) {
    return std::unexpected{filled.error()};
  }
  const auto measured = measure(disk, core, perf::pattern::randread, std::chrono::seconds{3});
  if (!measured) {
    return std::unexpected{measured.error()};
  }
  say("{}", perf::to_text(*measured));
  if (cores->size() == 1) {
    say("Only one core is allowed here, so both processes took turns on it: two are needed to see "
        "what polling does.\n");
  }
  if (measured->errors() != 0) {
    return fail({errc::bad_status}, "measure", disk, "some reads failed");
  }
  return stop(*target);
}

void advise() {
  if (has_huge_pages(huge_bytes) && huge_pages_free(huge_bytes) == 0) {
    say("Memory was in 4 KiB pages. Huge pages spare page walks on random access; as root:\n"
        "    echo 256 > /proc/sys/vm/nr_hugepages\n"
        "and both sides use them by themselves.\n");
  }
}

}  // namespace

outcome<> run(const options& asked) {
  const auto folder = scratch_folder::create();
  if (!folder) {
    return std::unexpected{folder.error()};
  }
  if (auto shown = show_image(*folder, asked); !shown) {
    return shown;
  }
  if (auto shown = show_speed(*folder, asked); !shown) {
    return shown;
  }
  advise();
  return {};
}

}  // namespace runnel::demo
