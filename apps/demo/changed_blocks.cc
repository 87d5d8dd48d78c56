#include "apps/demo/changed_blocks.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <vector>

#include "mempool/pool.h"
#include "runtime/cores.h"
#include "runtime/engine.h"

namespace runnel::demo {
namespace {

constexpr std::size_t block_bytes = 4096;
using block = std::array<char, block_bytes>;

struct change {
  std::uint64_t number;
  block data;
};

outcome<std::vector<change>> find_changes(const std::string& before, const std::string& after) {
  std::ifstream old_file{before, std::ios::binary};
  std::ifstream new_file{after, std::ios::binary};
  block old_block{};
  change found{};
  std::vector<change> changes;
  while (old_file.read(old_block.data(), block_bytes) &&
         new_file.read(found.data.data(), block_bytes)) {
    if (old_block != found.data) {
      changes.push_back(found);
    }
    ++found.number;
  }
  if (!old_file.eof()) {
    return fail({errc::os, EIO}, "compare " + before + " with", after);
  }
  return changes;
}

task<result<>> write_all(const std::vector<change>& changes, io::disk& disk, buffer_pool& pool) {
  const std::uint64_t blocks_per_change = block_bytes / disk.info().block_bytes;
  for (const change& one : changes) {
    buffer data = pool.get();
    std::copy(one.data.begin(), one.data.end(), reinterpret_cast<char*>(data.data()));
    const lba first = lba{one.number * blocks_per_change};
    const result<buffer> written = co_await disk.write(first, std::move(data));
    if (!written) {
      co_return std::unexpected{written.error()};
    }
  }
  const result<> flushed = co_await disk.flush();
  co_return flushed;
}

}  // namespace

outcome<std::uint64_t> write_changed_blocks(const std::string& before, const std::string& after,
                                            const std::string& address) {
  const auto changes = find_changes(before, after);
  if (!changes) {
    return std::unexpected{changes.error()};
  }
  const auto where = io::parse_address(address);
  if (!where) {
    return std::unexpected{where.error()};
  }
  const auto cores = allowed_cores();
  if (!cores) {
    return std::unexpected{cores.error()};
  }
  engine_options wanted;
  wanted.name = "demo";
  wanted.cores = {cores->back()};  // targets take the first
  const auto host = engine::create(std::move(wanted));
  if (!host) {
    return std::unexpected{host.error()};
  }
  const auto pool = (*host)->make_pool({.buffer_bytes = block_bytes, .count = 4});
  if (!pool) {
    return std::unexpected{pool.error()};
  }
  const auto device = (*host)->open(*where);
  if (!device) {
    return std::unexpected{device.error()};
  }
  const result<> written =
      (*host)->run(0, [&](reactor&) { return write_all(*changes, (*device)->on(0), **pool); });
  if (!written) {
    return fail(written.error(), "write changed blocks to", address);
  }
  return changes->size();
}

}  // namespace runnel::demo
