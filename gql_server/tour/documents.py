"""Every GraphQL document that the tour sends; a test holds them against schema.graphql."""

_REFUSAL = """
fragment Refusal on Error {
  code
  message
}
"""

_JOB_OUTCOME = """
fragment JobOutcome on Job {
  id
  status
  error
  result {
    ... on Node {
      id
    }
  }
}
"""

_LAUNCH = (
    """
fragment Launch on LaunchResult {
  __typename
  ... on JobLaunched {
    outcome
    job {
      ...JobOutcome
    }
  }
  ...Refusal
}
"""
    + _JOB_OUTCOME
    + _REFUSAL
)

LANGUAGE_MODELS = """
query LanguageModels {
  languageModels {
    id
    name
  }
}
"""

ADD_LANGUAGE_MODEL = (
    """
mutation AddLanguageModel($input: AddLanguageModelInput!) {
  result: addLanguageModel(input: $input) {
    __typename
    ... on LanguageModelAdded {
      languageModel {
        id
        name
      }
    }
    ...Refusal
  }
}
"""
    + _REFUSAL
)

LOAD_LANGUAGE_MODEL = (
    """
mutation LoadLanguageModel($id: ID!) {
  result: loadLanguageModel(id: $id) {
    ...Launch
  }
}
"""
    + _LAUNCH
)

LANGUAGE_MODEL = """
query LanguageModel($id: ID!) {
  languageModel(id: $id) {
    name
    architecture
    parameterCount
    hiddenSize
    layers(kind: BLOCK) {
      name
      depth
    }
  }
}
"""

CAPTURE_ACTIVATIONS = (
    """
mutation CaptureActivations($input: CaptureActivationsInput!) {
  result: captureActivations(input: $input) {
    ...Launch
  }
}
"""
    + _LAUNCH
)

ACTIVATION_RUN = """
query ActivationRun($id: ID!) {
  activationRun(id: $id) {
    sampleCount
    tokenCount
    byteSize
    manifestPath
  }
}
"""

TRAIN_SAE = (
    """
mutation TrainSae($input: TrainSaeInput!) {
  result: trainSae(input: $input) {
    ...Launch
  }
}
"""
    + _LAUNCH
)

RETRY_JOB = (
    """
mutation RetryJob($id: ID!) {
  result: retryJob(id: $id) {
    ...Launch
  }
}
"""
    + _LAUNCH
)

JOB = (
    """
query Job($id: ID!) {
  job(id: $id) {
    ...JobOutcome
  }
}
"""
    + _JOB_OUTCOME
)

INDEX_JOBS = """
query IndexJobs {
  jobs(kind: [INDEX_NEURONS], first: 20) {
    nodes {
      id
      result {
        ... on Sae {
          id
        }
      }
    }
  }
}
"""

JOB_PROGRESS = """
subscription JobProgress($id: ID!, $after: Int!) {
  jobProgress(id: $id, after: $after) {
    __typename
    sequence
    ... on JobStatusChanged {
      status
      error
    }
    ... on JobProgressed {
      progress {
        fraction
        completed
        total
        unit
      }
    }
    ... on JobLogged {
      message
    }
    ... on TrainingStepped {
      point {
        explainedVariance
        l0
        deadFraction
      }
    }
  }
}
"""

SAE = """
query Sae($id: ID!) {
  sae(id: $id) {
    latentCount
    k
    layer
    checkpointPath
    trainingConfig {
      epochs
      batchSize
      learningRate
    }
    trainingHistory(maxPoints: 6) {
      step
      tokenCount
      loss
      explainedVariance
      l0
      deadFraction
      tokensPerSecond
    }
    neuronIndex {
      tokenCount
      sampleCount
      deadCount
      topTextsPath
    }
  }
}
"""

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

EVALUATION = """
query Evaluation($id: ID!) {
  sae(id: $id) {
    evaluation {
      tokenCount
      explainedVariance
      l0
      deadFraction
      ceLossOriginal
      ceLossReconstructed
      ceLossZeroAblated
      ceLossRecovered
    }
  }
}
"""

NEURONS = """
query Neurons($id: ID!, $first: Int!, $filter: NeuronFilter) {
  sae(id: $id) {
    neurons(first: $first, orderBy: MAX_ACTIVATION_DESC, filter: $filter) {
      nodes {
        index
        frequency
        maxActivation
        promotedTokens(first: 4) {
          token
        }
        topTexts(first: 5) {
          token
          score
          tokens {
            token
            activation
          }
        }
      }
    }
  }
}
"""

SET_CONCEPT = (
    """
mutation SetConcept($input: SetConceptInput!) {
  result: setConcept(input: $input) {
    __typename
    ... on ConceptSet {
      concept {
        id
        name
      }
    }
    ...Refusal
  }
}
"""
    + _REFUSAL
)

TOP_NEURONS = (
    """
query TopNeurons($saeId: ID!, $prompts: [String!]!) {
  result: topNeurons(saeId: $saeId, prompts: $prompts, first: 6) {
    __typename
    ... on TopNeurons {
      prompts {
        tokens {
          text
        }
        neurons {
          activation
          tokenIndex
          neuron {
            index
            concept {
              name
            }
          }
        }
      }
    }
    ...Refusal
  }
}
"""
    + _REFUSAL
)

GENERATE = (
    """
mutation Generate($input: GenerateInput!) {
  result: generate(input: $input) {
    __typename
    ... on Generation {
      outputs {
        variant
        text
        tokens {
          text
        }
      }
    }
    ...Refusal
  }
}
"""
    + _REFUSAL
)
