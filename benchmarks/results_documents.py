"""The GraphQL documents of results.py; those of the tour do the rest."""

_LAUNCH = """
fragment Launch on LaunchResult {
  __typename
  ... on JobLaunched {
    outcome
    job {
      id
      status
      error
      result {
        ... on Node {
          id
        }
      }
    }
  }
  ... on Error {
    code
    message
  }
}
"""

IMPORT_SAE = (
    """
mutation ImportSae($input: ImportSaeInput!) {
  result: importSae(input: $input) {
    ...Launch
  }
}
"""
    + _LAUNCH
)

EVALUATE_SAE = (
    """
mutation EvaluateSae($input: EvaluateSaeInput!) {
  result: evaluateSae(input: $input) {
    ...Launch
  }
}
"""
    + _LAUNCH
)

INDEX_NEURONS = (
    """
mutation IndexNeurons($input: IndexNeuronsInput!) {
  result: indexNeurons(input: $input) {
    ...Launch
  }
}
"""
    + _LAUNCH
)

TRAINED = """
query Trained($id: ID!) {
  sae(id: $id) {
    trainingConfig {
      learningRate
      seed
    }
    trainingHistory {
      tokenCount
      tokensPerSecond
    }
  }
}
"""

EVALUATION = """
query Evaluation($id: ID!) {
  sae(id: $id) {
    evaluation {
      tokenCount
      mse
      explainedVariance
      l0
      deadFraction
      ceLossOriginal
      ceLossReconstructed
      ceLossZeroAblated
      ceLossRecovered
      klDivergenceReconstructed
    }
  }
}
"""

DEAD_NEURONS = """
query DeadNeurons($id: ID!) {
  sae(id: $id) {
    latentCount
    neuronIndex {
      tokenCount
      deadCount
    }
  }
}
"""
