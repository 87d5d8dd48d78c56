#include "apps/copy/copy.h"

#include <sys/stat.h>

#include <array>
#include <memory>
#include <span>
#include <utility>

#include "apps/copy/side.h"
#include "apps/process/confine.h"
#include "mempool/window.h"
#include "runtime/cores.h"
#include "runtime/engine.h"
#include "runtime/io/address.h"

namespace runnel::copy {
namespace {

constexpr std::size_t chunk_bytes = 4 * mib;
constexpr std::size_t block_bytes_max = 64 * kib;  // behind a chunk, for the last block
constexpr std::size_t queue_memory_bytes = 16 * mib;
constexpr std::size_t buffer_alignment = 4096;

/// One chunk is read while the previous one is still being written.
outcome<std::uint64_t> pump(side& from, side& to, std::array<std::span<std::byte>, 2> chunks,
                            const options& asked) {
  std::uint64_t done = 0;
  const std::uint64_t total = from.size().value_or(0);
  for (std::size_t turn = 0;; turn ^= 1U) {
    const auto count = from.read(chunks[turn]);
    if (!count) {
      return std::unexpected{count.error()};
    }
    if (*count != 0) {
      if (auto written = to.write(chunks[turn].first(*count)); !written) {
        return std::unexpected{written.error()};
      }
      done += *count;
    }
    if (asked.progress) {
      asked.progress(done, total);
    }
    if (*count < chunks[turn].size()) {
      break;
    }
  }
  if (auto finished = to.finish(); !finished) {
    return std::unexpected{finished.error()};
  }
  return done;
}

outcome<std::unique_ptr<side>> open_side(engine& host, const std::string& name, bool to_write) {
  return is_address(name) ? open_disk_side(host, name, host.memory().memory(), to_write)
                          : open_file_side(name, to_write);
}

/// The path behind a side; empty when it is none.
std::string path_of(const std::string& side) {
  if (!is_address(side)) {
    return side == "-" ? std::string{} : side;
  }
  const auto where = io::parse_address(side);
  return where && where->kind == io::scheme::file ? where->target : std::string{};
}

bool are_one_file(const std::string& from, const std::string& to) {
  struct stat first{};
  struct stat second{};
  return stat(path_of(from).c_str(), &first) == 0 && stat(path_of(to).c_str(), &second) == 0 &&
         first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

}  // namespace

bool is_address(const std::string& side) noexcept {
  const std::size_t colon = side.find(':');
  return colon != std::string::npos && colon < side.find('/');
}

outcome<summary> run(const options& asked) {
  if (are_one_file(asked.from, asked.to)) {
    return fail({errc::invalid}, "copy to", asked.to, "it is the file that " + asked.from + " is");
  }
  const auto cores = allowed_cores();
  if (!cores) {
    return std::unexpected{cores.error()};
  }
  engine_options wanted;
  wanted.name = "copy";
  wanted.cores = {cores->back()};
  wanted.window_bytes = (2 * chunk_bytes) + (2 * queue_memory_bytes);
  const auto host = engine::create(std::move(wanted));
  if (!host) {
    return std::unexpected{host.error()};
  }
  std::array<std::span<std::byte>, 2> chunks;
  for (std::span<std::byte>& chunk : chunks) {
    const auto memory = (*host)->memory().allocate(chunk_bytes + block_bytes_max, buffer_alignment);
    if (!memory) {
      return fail(memory.error(), "take buffers from", "the memory window");
    }
    chunk = memory->first(chunk_bytes);
  }
  const auto from = open_side(**host, asked.from, false);
  if (!from) {
    return std::unexpected{from.error()};
  }
  const auto to = open_side(**host, asked.to, true);
  if (!to) {
    return std::unexpected{to.error()};
  }
  const auto size = (*from)->size();
  const auto room = (*to)->room();
  if (size && room && *size > *room) {
    return fail({errc::invalid}, "copy to", asked.to,
                "it has " + std::to_string(*room) + " bytes, " + asked.from + " has " +
                    std::to_string(*size));
  }
  if (asked.confine) {
    if (auto confined = process::confine(*asked.confine, **host, nullptr); !confined) {
      return std::unexpected{std::move(confined.error())};
    }
  }
  const auto bytes = pump(**from, **to, chunks, asked);
  if (!bytes) {
    return std::unexpected{bytes.error()};
  }
  return summary{.bytes = *bytes, .notes = (*host)->notes()};
}

}  // namespace runnel::copy
