// Runs a function of an artifact on the rows of a CSV file of numbers, and writes what it gives as CSV:
//   run saved_models/digits rows.csv [score]
// Columns stand in the order of training, which manifest.json tells; a first line of names is skipped.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

constexpr int64_t kBatch = 1024;

// The numbers of a line; nothing where one of its cells is none.
std::vector<float> Numbers(const std::string& line) {
  std::vector<float> numbers;
  for (const char *at = line.data(), *end = at + line.size(); at <= end; ++at) {
    while (at < end && *at == ' ') ++at;
    float number = 0;
    const auto [rest, error] = std::from_chars(at, end, number);
    if (error != std::errc() || !std::isfinite(number) || (rest < end && *rest != ',' && *rest != '\r')) return {};
    numbers.push_back(number);
    at = std::find(rest, end, ',');
  }
  return numbers;
}

int Run(const std::string& folder, const std::string& file, const std::string& function) {
  Ort::Env env(ORT_LOGGING_LEVEL_WARNING);
  Ort::Session session(env, (folder + "/onnx/float32/" + function + ".onnx").c_str(), Ort::SessionOptions());
  Ort::AllocatorWithDefaultOptions allocator;

  // Names and shapes are in the graph: one input x, raw, whose first dimension is the batch.
  if (session.GetInputCount() != 1) throw std::runtime_error(function + " takes more than rows");
  const std::string input = session.GetInputNameAllocated(0, allocator).get();
  const auto type = session.GetInputTypeInfo(0);
  if (type.GetTensorTypeAndShapeInfo().GetElementType() != ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
    throw std::runtime_error("this program is for rows of float32");
  std::vector<int64_t> shape = type.GetTensorTypeAndShapeInfo().GetShape();
  const int64_t width = std::accumulate(shape.begin() + 1, shape.end(), int64_t{1}, std::multiplies<>());
  std::vector<std::string> outputs;
  for (size_t i = 0; i < session.GetOutputCount(); ++i)
    outputs.emplace_back(session.GetOutputNameAllocated(i, allocator).get());
  // ONNX has its outputs in the alphabet's order; first comes the one that the function is named for.
  std::stable_partition(outputs.begin(), outputs.end(), [&](const auto& name) { return name == function; });
  std::vector<const char*> names;
  for (const std::string& name : outputs) names.push_back(name.c_str());

  std::ifstream rows(file);
  if (!rows) throw std::runtime_error("no such file: " + file);
  std::vector<float> x;
  std::string line;
  int64_t number = 0;
  bool is_first = true, is_end = false;
  const char* input_name = input.c_str();
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  while (!is_end) {
    is_end = !std::getline(rows, line);
    if (!is_end && !line.empty()) {
      const std::vector<float> row = Numbers(line);
      if (static_cast<int64_t>(row.size()) == width)
        x.insert(x.end(), row.begin(), row.end());
      else if (number > 0 || !row.empty())
        throw std::runtime_error(file + ", line " + std::to_string(number + 1) + ": must be " + std::to_string(width) +
                                 " finite numbers");
    }
    ++number;
    shape[0] = static_cast<int64_t>(x.size()) / width;
    if (shape[0] == 0 || (shape[0] < kBatch && !is_end)) continue;
    const Ort::Value tensor = Ort::Value::CreateTensor<float>(memory, x.data(), x.size(), shape.data(), shape.size());
    const auto found = session.Run(Ort::RunOptions(), &input_name, &tensor, 1, names.data(), names.size());
    std::vector<int64_t> widths;
    for (const Ort::Value& value : found)
      widths.push_back(static_cast<int64_t>(value.GetTensorTypeAndShapeInfo().GetElementCount()) / shape[0]);
    for (size_t k = 0; is_first && k < outputs.size(); ++k)
      for (int64_t j = 0; j < widths[k]; ++j)
        std::printf("%s%s%s", k + j ? "," : "", names[k], widths[k] > 1 ? ("_" + std::to_string(j)).c_str() : "");
    if (is_first) std::printf("\n");
    is_first = false;
    for (int64_t i = 0; i < shape[0]; ++i) {
      for (size_t k = 0; k < outputs.size(); ++k)
        for (int64_t j = 0; j < widths[k]; ++j)
          std::printf("%s%.9g", k + j ? "," : "", found[k].GetTensorData<float>()[i * widths[k] + j]);
      std::printf("\n");
    }
    x.clear();
  }
  if (is_first) throw std::runtime_error(file + " holds no rows");
  return 0;
}

int main(int argc, char** argv) try {
  if (argc < 3) throw std::runtime_error("usage: run DIR ROWS.csv [FUNCTION]");
  return Run(argv[1], argv[2], argc > 3 ? argv[3] : "score");
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 2;
}
